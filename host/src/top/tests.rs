//! The busiest keys of a skewed load are found among many, however fast it comes; what is over is forgotten.

use super::{Top, Touch};

/// So many commands a second, of which key `n` is in one of `n + 1` parts, for some seconds.
fn run(top: &Top, seconds: usize, commands: usize, random: &mut u64) {
    for _ in 0..seconds {
        for _ in 0..commands {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // The inverse of the sum of 1/n: a key's number is spread as in natural loads.
            let number = (10_000_f64.powf((*random >> 11) as f64 / (1_u64 << 53) as f64)) as usize;
            let key = format!("key:{number}");
            if top.is_due() {
                let touch = Touch { db: 0, key: key.as_bytes(), writes: false, rule: Some(number % 2) };
                top.look([touch].into_iter(), 1);
            }
        }
        top.tick();
    }
}

fn busiest(top: &Top, count: usize) -> Vec<String> {
    let mut keys = top.told(1).keys;
    keys.sort_by(|a, b| b.reads_per_second.total_cmp(&a.reads_per_second));
    keys.iter().take(count).map(|key| String::from_utf8(key.key.clone()).unwrap()).collect()
}

#[test]
fn busy_keys() {
    for commands in [1_000, 20_000, 300_000] {
        let (top, mut random) = (Top::new(1), 7);
        run(&top, 5, commands, &mut random);
        let mut found = busiest(&top, 5);
        found.sort();
        assert_eq!(found, ["key:1", "key:2", "key:3", "key:4", "key:5"], "{commands} a second");
        let told = top.told(1);
        let near = |told: f64, expect: f64| (told - expect).abs() < expect * 0.2;
        assert!(near(told.commands_per_second, commands as f64), "{commands}: {}", told.commands_per_second);
        // 1 of log(10000) parts is 1 .. 2.
        let first = told.keys.iter().find(|key| key.key == b"key:1").unwrap();
        assert!(near(first.reads_per_second, commands as f64 * 2_f64.ln() / 10_000_f64.ln()), "{first:?}");
        let rules: f64 = told.rules.iter().map(|(_, rate)| rate).sum();
        assert!(near(rules, commands as f64), "{commands}: {rules}");
        assert!(top.told(2).rules.is_empty());
    }
}

#[test]
fn what_is_over_makes_room() {
    let top = Top::new(1);
    let touch = |key: &str| {
        assert!(top.is_due());
        top.look([Touch { db: 1, key: key.as_bytes(), writes: true, rule: None }].into_iter(), 1);
    };
    (0..500).for_each(|_| touch("old"));
    (0..200).for_each(|_| top.tick());
    for round in 0..300 {
        touch("new");
        touch(&format!("once:{round}"));
    }
    top.tick();
    let keys = top.told(1).keys;
    assert!(keys.len() <= 128 && keys.iter().any(|key| key.key == b"new" && key.writes_per_second >= 300.0));
    assert!(keys.iter().all(|key| key.key != b"old"), "it takes the place of one that is");
}

#[test]
fn large_values() {
    let top = Top::new(1);
    assert!(!top.is_large(100) && top.is_large(2_000));
    for number in 1..=200 {
        top.large(0, format!("key:{number}").as_bytes(), number * 2_000);
    }
    assert!(!top.is_large(2_000) && top.is_large(400_000));
    let largest = || top.told(1).keys.into_iter().max_by_key(|key| key.bytes).unwrap();
    assert_eq!((largest().key.as_slice(), largest().bytes), (&b"key:200"[..], 400_000));
    top.large(0, b"key:200", 500);
    assert_eq!(largest().key, b"key:199");
    (0..600).for_each(|_| top.tick());
    assert!(top.told(1).keys.is_empty() && top.is_large(2_000));
}
