//! A client's, a proxy's and a backend's namespace, and the programs in them.

use crate::living::{self, folder::Folder};
use crate::space::Space;
use crate::support::{BINARY, CLOSE, FIN, Service, Wire, close_body, masked, objects, offer};
use serde_json::Value;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// The longest that anything may take which nobody bounds.
pub(crate) const CEILING: Duration = Duration::from_secs(20);

/// Where the proxy's clients find it.
pub(crate) const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)), 8080);
/// The same over TLS.
pub(crate) const TLS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)), 8443);
/// The backend of every route.
pub(crate) const BACKEND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 2, 0, 2)), 9000);
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a proxy is started with besides the usual.
#[derive(Default)]
pub(crate) struct Launch {
    /// Words before the program: other programs that run it, such as `env`.
    pub(crate) by: Vec<String>,
    /// More flags.
    pub(crate) flags: Vec<&'static str>,
}

/// Everything that a test plays with.
pub(crate) struct World {
    proxy: Program,
    _echo: Option<Program>,
    pub(crate) client: Space,
    pub(crate) middle: Space,
    pub(crate) backend: Space,
    log: NamedTempFile,
    _folder: Folder,
}

impl World {
    /// One whose backend sends back what it gets. `spec` is more of the route's spec, as lines of YAML.
    pub(crate) fn echoing(spec: &str, launch: &Launch) -> Self {
        Self::start(&objects(&[BACKEND], spec), launch, true)
    }

    /// One whose backend does nothing until told.
    pub(crate) fn serving(spec: &str, launch: &Launch) -> (Self, Service) {
        let world = Self::start(&objects(&[BACKEND], spec), launch, false);
        let service = world.backend.inside(|| Service::at(BACKEND)).expect("the port is free");
        (world, service)
    }

    /// One with these objects, and an echo at [`BACKEND`] if asked for.
    pub(crate) fn start(objects: &str, launch: &Launch, echo: bool) -> Self {
        let (client, middle, backend) = (Space::new(), Space::new(), Space::new());
        client.link(("edge", "10.1.0.2"), &middle, ("front", "10.1.0.1"));
        middle.link(("back", "10.2.0.1"), &backend, ("rear", "10.2.0.2"));
        let echoes = echo.then(|| {
            let words = ["echo".to_owned(), "--listen".to_owned(), BACKEND.to_string()];
            Program(backend.command(SHEAVE).args(words).stdout(Stdio::null()).spawn().expect("nsenter is there"))
        });
        let folder = Folder::with(objects);
        let log = NamedTempFile::new().expect("a temporary file can be made");
        let proxy = Program(run(&middle, folder.path(), log.path(), launch));
        let world = Self { proxy, _echo: echoes, client, middle, backend, log, _folder: folder };
        world.until("the proxy is ready", || world.get("/readyz").is_some_and(|(status, _)| status == 200));
        if echo {
            world.until("the backend listens", || world.backend.inside(|| TcpStream::connect(BACKEND)).is_ok());
        }
        world
    }

    /// The number of the proxy's process.
    pub(crate) fn pid(&self) -> u32 {
        self.proxy.0.id()
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        self.until_some(what, || is().then_some(()));
    }

    /// Waits until there is something.
    pub(crate) fn until_some<T>(&self, what: &str, mut find: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = find() {
                return found;
            }
            assert!(began.elapsed() < CEILING, "{what}: not within {CEILING:?}; the proxy's log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Status and body of a GET on the admin listener; `None` while it does not answer.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        self.middle.inside(|| {
            TcpStream::connect(ADMIN).ok()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            Some(runtime.block_on(living::get(ADMIN, path)))
        })
    }

    /// The sum of the samples of a family that have all these labels; 0 when there are none.
    pub(crate) fn metric(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        let (_, text) = self.get("/metrics").expect("the admin listener answers");
        living::sum(&text, family, labels).unwrap_or(0.0)
    }

    /// Waits until the sum of those samples is `value`.
    pub(crate) fn metric_becomes(&self, family: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{family}{labels:?} becomes {value}");
        self.until(&what, || (self.metric(family, labels) - value).abs() < f64::EPSILON);
    }

    /// Waits until so many sessions are live.
    pub(crate) fn live(&self, count: usize) {
        self.metric_becomes("sheave_connections_active", &[], f64::from(u32::try_from(count).expect("a few")));
    }

    /// What the proxy has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("it logs to a file")
    }

    /// The records of an event, oldest first.
    pub(crate) fn records(&self, event: &str) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|record| record["event"] == event).collect()
    }

    /// Connects as a client.
    pub(crate) fn connect(&self) -> Wire {
        self.client.inside(|| Wire::connect(PROXY))
    }

    /// Offers a handshake with more header lines, separated by `|`; the connection with its answer still to be read.
    pub(crate) fn offer(&self, with: &str) -> Wire {
        let mut client = self.connect();
        client.send(offer("", with));
        client
    }

    /// Opens a session.
    pub(crate) fn open(&self) -> Wire {
        self.open_with("")
    }

    /// Opens a session with more header lines.
    pub(crate) fn open_with(&self, with: &str) -> Wire {
        let mut client = self.offer(with);
        let answer = client.answer();
        assert_eq!(answer.head.status(), 101, "{answer:?}; the proxy's log:\n{}", self.log());
        client
    }

    /// Opens a session on `service`: the client's end and the service's.
    pub(crate) fn open_on(&self, service: &Service) -> (Wire, Wire) {
        let mut client = self.offer("");
        let (mut upstream, request) = service.request();
        upstream.send(crate::support::switching(&request, ""));
        assert_eq!(client.answer().head.status(), 101);
        (client, upstream)
    }

    /// Expects that a new handshake is refused for want of means, and told when to come again.
    pub(crate) fn sheds(&self) {
        let answer = self.offer("").answer();
        assert_eq!(answer.head.status(), 503, "{answer:?}");
        let wait: u32 = answer.head.get("Retry-After").and_then(|text| text.parse().ok()).expect("Retry-After");
        assert!((1..=30).contains(&wait), "{answer:?}");
        assert_eq!(answer.body, "overloaded: try again later\n");
    }

    /// Expects that new handshakes work by themselves, and that `live` sessions are left.
    pub(crate) fn recovers(&self, live: usize) {
        let mut client = self.until_some("a new handshake works", || {
            let mut client = self.offer("");
            (client.answer().head.status() == 101).then_some(client)
        });
        echo(&mut client, b"as before");
        close(client);
        self.live(live);
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    /// Seconds of processor time that the proxy has used.
    pub(crate) fn processor(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let ticks: u32 = [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u32>().expect("a number")).sum();
        f64::from(ticks) / 100.0
    }

    /// How many descriptors the proxy has.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// Bytes of memory that the proxy has.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        1024 * line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
    }
}

const SHEAVE: &str = env!("CARGO_BIN_EXE_sheave");

fn run(space: &Space, folder: &Path, log: &Path, launch: &Launch) -> Child {
    let listen = PROXY.to_string();
    let (tls, admin) = (TLS.to_string(), ADMIN.to_string());
    let words = ["serve", folder.to_str().expect("text"), "--listen", &listen, "--listen-tls", &tls, "--admin", &admin];
    let mut by = launch.by.iter().map(String::as_str).chain([SHEAVE]);
    let mut command: Command = space.command(by.next().expect("one at least"));
    command.args(by).args(words).args(["--workers", "2", "--log-format", "json"]).args(&launch.flags);
    command.stderr(File::create(log).expect("a file")).spawn().expect("nsenter is there")
}

/// Sends a message and waits for it to come back.
pub(crate) fn echo(client: &mut Wire, payload: &[u8]) {
    client.send(masked(FIN | BINARY, payload));
    let frame = client.frame();
    assert!(frame.first == FIN | BINARY && frame.payload == payload, "not what was sent: {frame:?}");
}

/// Closes a session properly.
pub(crate) fn close(mut client: Wire) {
    client.send(masked(FIN | CLOSE, &close_body(1000, "")));
    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1000));
}
