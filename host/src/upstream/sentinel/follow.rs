//! Listens to a sentinel that tells of new masters, and looks calmly by itself: also where no sentinel tells, another
//! master is found soon.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::Sentinels;
use super::ask::{Talk, error};
use super::explained;

/// How often is looked where no sentinel tells of new masters, and how often one that does is seen to be there.
const LOOK: Duration = Duration::from_secs(2);
/// A sentinel that is there and has told nothing is asked all the same after so many of these looks.
const LOOKS: u32 = 5;

// === impl Sentinels ===

impl Sentinels {
    /// Follows the master for as long as the process lives. `time` is what a look may take.
    pub async fn follow(self, time: Duration) {
        let mut lost = false;
        loop {
            // The one that listens may be told of a master before it is asked for one.
            let why = self.listen(time).await;
            tracing::debug!(error = %why, "no sentinel tells of new masters for now");
            let looked = self.look(time).await;
            match &looked {
                Ok(()) if lost => tracing::info!("sentinels name the master {} again", self.0.start.name),
                Err(error) if !lost => tracing::warn!(%error, "the master is not followed"),
                Ok(()) | Err(_) => {}
            }
            lost = looked.is_err();
            self.wait(LOOK).await;
        }
    }

    /// Waits, or until somebody has seen that the master may be another.
    async fn wait(&self, time: Duration) {
        drop(timeout(time, self.0.look.notified()).await);
    }

    /// Connects to the master, if it is another: that ends the connections to the old one.
    async fn look(&self, time: Duration) -> io::Result<()> {
        let named = self.resolve(time).await?;
        if self.0.known.borrow().as_ref().is_none_or(|known| known.place != named.place) {
            drop(self.connect(time).await?);
        }
        Ok(())
    }

    /// Looks whenever the sentinel that is asked first says that there is another master: why it no longer does.
    async fn listen(&self, time: Duration) -> io::Error {
        match self.told(time).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn told(&self, time: Duration) -> io::Result<std::convert::Infallible> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let first = self.places().into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        let mut talk = timeout(time, async {
            let mut talk = Talk::new(self.open(&first).await.map_err(explained)?);
            talk.log_in(&self.0.start.sentinel).await?;
            match error(&talk.ask(&["SUBSCRIBE", "+switch-master"]).await?) {
                None => Ok(talk),
                Some(error) => Err(io::Error::other(error)),
            }
        })
        .await
        .map_err(late)??;
        let mut looks = 0;
        loop {
            tokio::select! {
                frame = talk.next() => drop(frame?),
                () = self.0.look.notified() => {}
                () = tokio::time::sleep(LOOK) => {
                    // The answer to the PING, or what the sentinel tells just then.
                    timeout(LOOK, talk.ask(&["PING"])).await.map_err(late)??;
                    looks += 1;
                    if looks % LOOKS != 0 {
                        continue;
                    }
                }
            }
            self.look(time).await?;
        }
    }
}
