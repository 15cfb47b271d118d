//! Real servers on loopback ports, each ended with the test.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use steer_tests::{free_port, skip};

pub(crate) const GRPCIO: &str = "/usr/lib/python3/dist-packages/grpc/__init__.py";

/// Says so when a program is not there.
pub(crate) fn missing(program: &str, test: &str) -> bool {
    let missing = !Path::new(program).exists();
    if missing {
        skip(test, &format!("{program} is not installed"));
    }
    missing
}

/// A process group, killed when dropped. The leader has the number of the group.
pub(crate) struct Group {
    child: Child,
    log: PathBuf,
}

impl Group {
    fn start(command: &mut Command, log: &Path) -> Self {
        let out = File::create(log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn();
        Self {
            child: child.unwrap(),
            log: log.to_owned(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// To all of it.
    pub(crate) fn signal(&self, signal: Signal) {
        killpg(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    fn until_listening(mut self, address: SocketAddr) -> Self {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{}",
                fs::read_to_string(&self.log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails where it was killed before.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Waits until something listens there.
pub(crate) fn listening(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {address}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A root, and certificates of `www.example.com` that it signs.
pub(crate) struct Certificates {
    pub(crate) root: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) good: PathBuf,
    pub(crate) expired: PathBuf,
}

impl Certificates {
    pub(crate) fn make(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name);
        let openssl = |args: &[&str]| {
            let done = Command::new("openssl")
                .args(args)
                .current_dir(folder)
                .output()
                .unwrap();
            assert!(
                done.status.success(),
                "{args:?}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let root = [
            "-x509", "-days", "30", "-subj", "/CN=root", "-keyout", "root.key", "-out", "root.pem",
        ];
        openssl(&[&["req"], &key[..], &root].concat());
        let leaf = [
            "-subj",
            "/CN=www.example.com",
            "-keyout",
            "leaf.key",
            "-out",
            "leaf.csr",
        ];
        openssl(&[&["req"], &key[..], &leaf].concat());
        let more = "subjectAltName = DNS:www.example.com, IP:127.0.0.1\nbasicConstraints = CA:FALSE\n";
        fs::write(at("leaf.ext"), more).unwrap();
        for (days, out) in [("20", "good.pem"), ("-1", "expired.pem")] {
            openssl(&[
                "x509",
                "-req",
                "-in",
                "leaf.csr",
                "-CA",
                "root.pem",
                "-CAkey",
                "root.key",
                "-CAcreateserial",
                "-days",
                days,
                "-extfile",
                "leaf.ext",
                "-out",
                out,
            ]);
        }
        Self {
            root: at("root.pem"),
            key: at("leaf.key"),
            good: at("good.pem"),
            expired: at("expired.pem"),
        }
    }
}

/// nginx with a page for each way to answer.
pub(crate) struct Nginx {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    /// With a certificate that is over.
    pub(crate) expired: SocketAddr,
    pub(crate) process: Group,
    folder: PathBuf,
    base: String,
    /// Takes connections and never answers.
    _mute: TcpListener,
}

impl Nginx {
    pub(crate) fn start(folder: &Path, certificates: &Certificates) -> Self {
        let folder = folder.join("nginx");
        fs::create_dir_all(&folder).unwrap();
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let [http, https, expired] = [(); 3].map(|()| free_port());
        let Certificates {
            key,
            good,
            expired: over,
            root: _,
        } = certificates;
        let (key, good, over) = (key.display(), good.display(), over.display());
        let base = format!(
            r##"
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {{
    listen {http};
    location /ready {{ if ($host = other.example) {{ return 421; }} add_header X-Lag 3; return 200 "all ready"; }}
    location /teapot {{ return 418; }}
    location /moved {{ return 301 /ready; }}
    location /load {{ return 200 '{{"load": [0.1, 0.5]}}'; }}
    location /metrics {{ return 200 "# HELP node_load1 1m load\nnode_load1 0.25\n"; }}
    location /closed {{ return 444; }}
    location /reset {{ reset_timedout_connection on; return 444; }}
    location /hung {{ proxy_pass http://{mute}; }}
    location / {{ return 204; }}
  }}
  server {{ listen {https} ssl; ssl_certificate {good}; ssl_certificate_key {key}; return 200 "ready"; }}
  server {{ listen {expired} ssl; ssl_certificate {over}; ssl_certificate_key {key}; return 200 "ready"; }}
"##,
            mute = mute.local_addr().unwrap(),
        );
        fs::write(folder.join("nginx.conf"), format!("{base}}}\n")).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command
            .arg("-p")
            .arg(&folder)
            .args(["-e", "error.log", "-c", "nginx.conf"]);
        let process = Group::start(&mut command, &folder.join("log")).until_listening(https);
        Self {
            http,
            https,
            expired,
            process,
            folder,
            base,
            _mute: mute,
        }
    }

    /// The file with the number of its process.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.folder.join("nginx.pid")
    }

    /// More servers in its configuration, taken over without a restart.
    pub(crate) fn reload_with(&self, more: &str) {
        fs::write(self.folder.join("nginx.conf"), format!("{}{more}}}\n", self.base)).unwrap();
        let pid = fs::read_to_string(self.folder.join("nginx.pid")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap());
        nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
    }
}

/// unbound with data of its own.
pub(crate) struct Unbound {
    pub(crate) address: SocketAddr,
    pub(crate) process: Group,
}

impl Unbound {
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_on(folder, &[])
    }

    /// On these addresses of this machine as well.
    pub(crate) fn start_on(folder: &Path, more: &[IpAddr]) -> Self {
        let address = free_port();
        let more: String = more.iter().map(|ip| format!("  interface: {ip}\n")).collect();
        let config = format!(
            r#"
server:
  interface: {ip}
{more}  port: {port}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  num-threads: 1
  local-zone: "test." static
  local-data: "www.test. 60 IN A 192.0.2.1"
  local-data: "www.test. 60 IN AAAA 2001:db8::1"
  local-data: 'www.test. 60 IN TXT "all is well"'
  local-zone: "refused.test." refuse
  local-zone: "dropped.test." deny
remote-control:
  control-enable: no
"#,
            ip = address.ip(),
            port = address.port(),
            folder = folder.display(),
        );
        let file = folder.join("unbound.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/unbound");
        command.arg("-d").arg("-c").arg(&file);
        let process = Group::start(&mut command, &folder.join("unbound.log")).until_listening(address);
        Self { address, process }
    }
}

/// HAProxy with a page of its own, and with servers that are not there.
pub(crate) struct Haproxy {
    pub(crate) http: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) reject: SocketAddr,
    pub(crate) process: Group,
}

impl Haproxy {
    pub(crate) fn start(folder: &Path) -> Self {
        let [http, tcp, reject, nobody] = [(); 4].map(|()| free_port());
        let config = format!(
            r#"
global
  maxconn 500
defaults
  mode http
  timeout connect 50ms
  timeout client 5s
  timeout server 5s
frontend page
  bind {http}
  http-request return status 200 content-type text/plain string ok if {{ path /healthz }}
  default_backend gone
backend gone
  retries 0
  server one {nobody}
frontend port
  mode tcp
  bind {tcp}
  default_backend gone-too
backend gone-too
  mode tcp
  retries 0
  server one {nobody}
frontend reject
  mode tcp
  bind {reject}
  tcp-request inspect-delay 1s
  tcp-request content reject if {{ req.len gt 0 }}
  default_backend gone-too
"#
        );
        let file = folder.join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let process = Group::start(&mut command, &folder.join("haproxy.log")).until_listening(reject);
        Self {
            http,
            tcp,
            reject,
            process,
        }
    }
}

/// `grpc.health.v1` on grpcio.
pub(crate) struct GrpcServer {
    pub(crate) address: SocketAddr,
    pub(crate) process: Group,
}

impl GrpcServer {
    pub(crate) fn start(folder: &Path, tls: Option<&Certificates>) -> Self {
        Self::with(folder, tls, &[])
    }

    /// One that knows no `Watch`.
    pub(crate) fn without_watch(folder: &Path) -> Self {
        Self::with(folder, None, &["--no-watch"])
    }

    /// On every address of this machine.
    pub(crate) fn everywhere(folder: &Path) -> Self {
        Self::with(folder, None, &["--everywhere"])
    }

    fn with(folder: &Path, tls: Option<&Certificates>, more: &[&str]) -> Self {
        let address = free_port();
        let script = folder.join("health_server.py");
        fs::write(&script, include_str!("health_server.py")).unwrap();
        let mut command = Command::new("/usr/bin/python3");
        command.arg(&script).arg(address.to_string()).args(more);
        if let Some(Certificates { key, good, .. }) = tls {
            command.arg(key).arg(good);
        }
        let log = folder.join(format!("grpc-{}.log", address.port()));
        let process = Group::start(&mut command, &log).until_listening(address);
        Self { address, process }
    }
}
