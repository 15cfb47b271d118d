//! A cluster of etcd members on 127.0.0.1.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use steer_tests::{free_port, peers};

const PROGRAM: &str = "/usr/bin/etcd";

pub(crate) struct Etcd {
    folder: PathBuf,
    members: Vec<Member>,
}

struct Member {
    client: std::net::SocketAddr,
    peer: std::net::SocketAddr,
    process: Option<Child>,
}

impl Etcd {
    /// Starts so many members and waits until they are ready.
    pub(crate) fn start(folder: &Path, count: usize) -> Result<Self, String> {
        peers::missing_program(&[PROGRAM], "etcd-server")?;
        fs::create_dir(folder).unwrap();
        let member = |_| Member {
            client: free_port(),
            peer: free_port(),
            process: None,
        };
        let mut etcd = Self {
            folder: folder.to_owned(),
            members: (0..count).map(member).collect(),
        };
        etcd.run();
        Ok(etcd)
    }

    pub(crate) fn members(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.client.to_string())
            .collect()
    }

    /// Starts what does not run, with the data that it had.
    pub(crate) fn run(&mut self) {
        let peers: Vec<_> = (self.members.iter().enumerate())
            .map(|(index, member)| format!("m{index}=http://{}", member.peer))
            .collect();
        for (index, member) in self.members.iter_mut().enumerate() {
            if member.process.is_some() {
                continue;
            }
            let (client, peer) = (
                format!("http://{}", member.client),
                format!("http://{}", member.peer),
            );
            let log = fs::File::create(self.folder.join(format!("m{index}.log"))).unwrap();
            let process = Command::new(PROGRAM)
                .args(["--name", &format!("m{index}")])
                .arg("--data-dir")
                .arg(self.folder.join(format!("m{index}")))
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
                .stdout(Stdio::null())
                .stderr(log)
                .spawn();
            member.process = Some(process.unwrap());
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        for index in 0..self.members.len() {
            let log = self.folder.join(format!("m{index}.log"));
            loop {
                let said = fs::read_to_string(&log).unwrap_or_default();
                if said.contains("ready to serve client requests") {
                    break;
                }
                assert!(Instant::now() < deadline, "{said}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// `kill -9` for every member.
    pub(crate) fn kill(&mut self) {
        for mut process in self.members.iter_mut().filter_map(|member| member.process.take()) {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
