//! An etcd of our own on 127.0.0.1.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ETCD: &str = "/usr/bin/etcd";
const ETCDCTL: &str = "/usr/bin/etcdctl";

/// Members that end with the test.
pub(super) struct Cluster {
    folder: tempfile::TempDir,
    members: Vec<Member>,
    tls: Vec<String>,
}

struct Member {
    client: u16,
    peer: u16,
    process: Option<Child>,
}

/// Certificates of an authority, of a member and of a client, and another authority.
pub(super) struct Keys {
    pub(super) ca: PathBuf,
    pub(super) other_ca: PathBuf,
    server_cert: PathBuf,
    server_key: PathBuf,
    pub(super) client_cert: PathBuf,
    pub(super) client_key: PathBuf,
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Cluster {
    /// Starts `count` members, or says why not.
    pub(super) fn start(count: usize) -> Option<Self> {
        Self::start_with(count, Vec::new())
    }

    pub(super) fn start_tls(keys: &Keys) -> Option<Self> {
        let flag = |name: &str, file: &Path| format!("--{name}={}", file.display());
        Self::start_with(
            1,
            vec![
                flag("cert-file", &keys.server_cert),
                flag("key-file", &keys.server_key),
                flag("trusted-ca-file", &keys.ca),
                "--client-cert-auth".to_owned(),
            ],
        )
    }

    fn start_with(count: usize, tls: Vec<String>) -> Option<Self> {
        if !Path::new(ETCD).exists() {
            eprintln!("skip: needs {ETCD} (Debian package etcd-server)");
            return None;
        }
        let member = |_| Member {
            client: free_port(),
            peer: free_port(),
            process: None,
        };
        let mut cluster = Self {
            folder: tempfile::tempdir().unwrap(),
            members: (0..count).map(member).collect(),
            tls,
        };
        cluster.run();
        Some(cluster)
    }

    pub(super) fn members(&self) -> Vec<String> {
        let members = self.members.iter();
        members
            .map(|member| format!("127.0.0.1:{}", member.client))
            .collect()
    }

    /// Starts what does not run, with what it knew, and waits until all are ready for clients.
    pub(super) fn run(&mut self) {
        let peers: Vec<_> = (self.members.iter().enumerate())
            .map(|(index, member)| format!("m{index}=http://127.0.0.1:{}", member.peer))
            .collect();
        let scheme = if self.tls.is_empty() { "http" } else { "https" };
        for (index, member) in self.members.iter_mut().enumerate() {
            if member.process.is_some() {
                continue;
            }
            let client = format!("{scheme}://127.0.0.1:{}", member.client);
            let peer = format!("http://127.0.0.1:{}", member.peer);
            let log = fs::File::create(self.folder.path().join(format!("m{index}.log"))).unwrap();
            let process = Command::new(ETCD)
                .args(["--name", &format!("m{index}")])
                .arg("--data-dir")
                .arg(self.folder.path().join(format!("m{index}")))
                .args([
                    "--listen-client-urls",
                    &client,
                    "--advertise-client-urls",
                    &client,
                ])
                .args([
                    "--listen-peer-urls",
                    &peer,
                    "--initial-advertise-peer-urls",
                    &peer,
                ])
                .args(["--initial-cluster", &peers.join(",")])
                .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
                .args(&self.tls)
                .stdout(Stdio::null())
                .stderr(log)
                .spawn();
            member.process = Some(process.unwrap());
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        for index in 0..self.members.len() {
            let log = self.folder.path().join(format!("m{index}.log"));
            while !fs::read_to_string(&log)
                .unwrap_or_default()
                .contains("ready to serve client requests")
            {
                assert!(
                    Instant::now() < deadline,
                    "{}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// As `kill -9` does, all of them.
    pub(super) fn kill(&mut self) {
        for process in self
            .members
            .iter_mut()
            .filter_map(|member| member.process.as_mut())
        {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        self.members.iter_mut().for_each(|member| member.process = None);
    }

    /// The same with one of them.
    pub(super) fn kill_one(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// What they knew is gone. They must not run.
    pub(super) fn forget(&self) {
        for index in 0..self.members.len() {
            fs::remove_dir_all(self.folder.path().join(format!("m{index}"))).unwrap();
        }
    }

    pub(super) fn control(&self, args: &[&str]) -> bool {
        let mut command = Command::new(ETCDCTL);
        command.env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints={}", self.members().join(",")));
        let done = command.args(args).output();
        done.is_ok_and(|done| done.status.success())
    }

    /// Whether there is the program for [`Self::control`]; says why not.
    pub(super) fn has_control(&self) -> bool {
        if !Path::new(ETCDCTL).exists() {
            eprintln!("skip: needs {ETCDCTL} (Debian package etcd-client)");
            return false;
        }
        true
    }

    /// Turns users on, with `root` as the only one; false with a reason printed where nothing can do that.
    pub(super) fn has_users(&self, password: &str) -> bool {
        if !self.has_control() {
            return false;
        }
        assert!(self.control(&["user", "add", &format!("root:{password}")]));
        assert!(
            self.control(&["user", "grant-role", "root", "root"]) || self.control(&["role", "add", "root"])
        );
        assert!(self.control(&["auth", "enable"]));
        true
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Keys {
    pub(super) fn make(folder: &Path) -> Self {
        let authority = |name: &str| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let key = rcgen::KeyPair::generate().unwrap();
            let cert = params.self_signed(&key).unwrap();
            let file = folder.join(format!("{name}.pem"));
            fs::write(&file, cert.pem()).unwrap();
            (file, rcgen::Issuer::new(params, key))
        };
        let (ca, issuer) = authority("ca");
        let (other_ca, _) = authority("other");
        let signed = |name: &str| {
            let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
            let key = rcgen::KeyPair::generate().unwrap();
            let cert = rcgen::CertificateParams::new(names)
                .unwrap()
                .signed_by(&key, &issuer)
                .unwrap();
            let files = (
                folder.join(format!("{name}.crt")),
                folder.join(format!("{name}.key")),
            );
            fs::write(&files.0, cert.pem()).unwrap();
            fs::write(&files.1, key.serialize_pem()).unwrap();
            files
        };
        let (server_cert, server_key) = signed("server");
        let (client_cert, client_key) = signed("client");
        Self {
            ca,
            other_ca,
            server_cert,
            server_key,
            client_cert,
            client_key,
        }
    }
}
