//! What goes wrong between us and a server, in words that say what to do.

use std::io;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription as Alert, CertificateError, Error, InvalidMessage};

use super::ClientFiles;

/// An error of a connection to a server.
pub(super) fn server(error: io::Error, files: &ClientFiles, name: &ServerName<'static>) -> io::Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::other("the server closed the connection during the TLS handshake")
            }
            _ => error,
        };
    };
    io::Error::other(match tls {
        Error::InvalidCertificate(wrong) => certificate(wrong, files, name),
        Error::AlertReceived(alert) => refusal(*alert, files),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS on this port; name its tls-port, or use redis://".to_owned()
        }
        other => format!("TLS: {other}"),
    })
}

fn certificate(wrong: &CertificateError, files: &ClientFiles, name: &ServerName<'static>) -> String {
    let (name, authorities) = (name.to_str(), files.settings.authorities());
    match wrong {
        CertificateError::UnknownIssuer => match &files.authorities {
            Some(path) => {
                format!("no authority in {} has signed the server's certificate ({authorities})", path.display())
            }
            None => format!(
                "no authority that the system trusts has signed the server's certificate; name the file of the one \
                 that has with {authorities}"
            ),
        },
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the server's certificate is not for {name}; {} ({wrong})", files.settings.other_name())
        }
        // A certificate that signed itself, and says that it is an authority.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the server's certificate is an authority's own; give it one that the authority has signed".to_owned()
        }
        wrong => format!("the server's certificate: {wrong}"),
    }
}

/// What a server says when it ends the connection.
fn refusal(alert: Alert, files: &ClientFiles) -> String {
    let about_us = matches!(
        alert,
        Alert::CertificateRequired
            | Alert::HandshakeFailure
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
    );
    match &files.identity {
        None if about_us => format!("the server ends the connection ({alert:?}); {}", files.settings.identity()),
        Some(identity) if about_us => {
            format!("the server does not take the certificate {} ({alert:?})", identity.certificate.display())
        }
        _ => format!("the server ends the connection ({alert:?})"),
    }
}
