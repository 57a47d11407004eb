//! probe
use bellwether::clock::Clock;
use bellwether::config::{Config, Texts};
use bellwether::policy::standard::STANDARD;
use bellwether::policy::{Decider, Mount, Origin, PolicySet};
use bellwether::reload::Reloader;
use std::sync::Arc;
fn main() {
    let standard = STANDARD.iter().find(|s| s.name == "market-hours").unwrap();
    let mount = Mount {
        name: standard.name.to_owned(),
        component: standard.component.into(),
        settings: "{}".to_owned(),
        cases: None,
        origin: Origin::Embedded,
    };
    let reloader =
        Reloader::new(&Config::from_texts(&Texts::defaults()).unwrap(), "warn", Clock::new(|| 0, 0)).unwrap();
    let set = PolicySet::load(reloader.engine(), 1, &[mount], None).unwrap();
    let mut d = Decider::new(Arc::new(set));
    let mut at = 1_767_225_600_000i64;
    d.session("XNYS", at).unwrap().unwrap();
    for _ in 0..3 {
        let t = std::time::Instant::now();
        let n = 1_000_000;
        for i in 0..n {
            at = 1_767_225_600_000 + (i * 7919 * 60_000) % 31_000_000_000;
            std::hint::black_box(d.session("XNYS", at).unwrap().unwrap());
        }
        println!("{} ns", t.elapsed().as_nanos() / n as u128);
    }
}
