//! A child process that ends with its test, and whose output a test may read while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running program.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a program; both its outputs are kept, line by line.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::default();
        let readers = vec![keep(child.stdout.take().unwrap(), &lines), keep(child.stderr.take().unwrap(), &lines)];
        Self { child, lines, readers }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that `find` turns into something.
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.lines().iter().find_map(|line| find(line)) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                panic!("no {what} (ended: {ended:?}); it printed:\n{}", self.lines().join("\n"));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -s {name}");
    }

    /// Kills the processes that it has started.
    pub fn kill_children(&self) -> usize {
        let parent = format!("PPid:\t{}\n", self.child.id());
        let is_child = |id: &String| {
            std::fs::read_to_string(format!("/proc/{id}/status")).is_ok_and(|status| status.contains(&parent))
        };
        let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let children: Vec<_> = all.filter(|name| name.parse::<u32>().is_ok()).filter(is_child).collect();
        children
            .iter()
            .for_each(|id| assert!(Command::new("kill").args(["-s", "KILL", id]).status().unwrap().success()));
        children.len()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How long one of its threads has had a processor.
    pub fn thread_time(&self, name: &str) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let named = threads
            .map(|entry| entry.unwrap().path())
            .find(|thread| std::fs::read_to_string(thread.join("comm")).is_ok_and(|is| is.trim_end() == name));
        let times = std::fs::read_to_string(named.unwrap().join("schedstat")).unwrap();
        Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
    }

    /// The memory it holds.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Waits for the end; then all lines are there.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.readers.drain(..).for_each(|reader| reader.join().unwrap());
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; it printed:\n{}", self.lines().join("\n"));
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already is just as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn keep(output: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    })
}

/// A port that was free a moment ago and is given to nobody else. Below those that the system takes by itself: of
/// these, one may be some connection's by the time that its server listens.
pub fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = |_| {
        // Other processes begin elsewhere.
        let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(997));
        let port = u16::try_from(FIRST + number % COUNT).unwrap();
        std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    };
    (0..COUNT).find_map(next).expect("a free port")
}

/// Asks until the answer is yes.
pub fn poll_until(what: &str, is: impl FnMut() -> bool) {
    poll_within(PATIENCE, what, is);
}

/// Asks until the answer is yes, for so long at most.
pub fn poll_within(patience: Duration, what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !is() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Looks until there is what was expected; fails with what was there instead.
pub fn poll_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(got) if Instant::now() > deadline => panic!("waited too long for {what}; got {got}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}
