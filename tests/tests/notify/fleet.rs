//! Two sites with an endpoint each, one of which the test takes down, and the steer of fra that tells it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use steer_tests::{Admin, Steer, free_port};

use crate::hook::{Hook, SECRET};

pub(crate) struct Fleet {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) admin: Admin,
    pub(crate) hook: Hook,
    addresses: [SocketAddr; 2],
    endpoints: [Option<TcpListener>; 2],
}

impl Fleet {
    /// With a webhook called `ops`, and more in the file.
    pub(crate) fn new(more: &str) -> Self {
        let fleet = Self::bare(more);
        let hook = fleet.hook_table("ops");
        fleet.write(&format!("{}{hook}", fleet.text()));
        fleet
    }

    /// Without any channel but those of `more`.
    pub(crate) fn bare(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The kernel completes connections without anybody calling accept.
        let endpoints = [1, 2].map(|last| TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap());
        let addresses = [&endpoints[0], &endpoints[1]].map(|one| one.local_addr().unwrap());
        let admin = free_port();
        let [fra, nrt] = addresses;
        let config = format!(
            r#"
[fleet]
name = "example"
store = "embedded:state/steer.redb"
guard = {{ keep_sites = 1, max_withdrawn = 9 }}
[[site]]
name = "fra"
[[site]]
name = "nrt"
[[check]]
name = "web"
kind = "tcp"
interval = "100ms"
timeout = "50ms"
[[pool]]
name = "web"
check = "web"
endpoints = [ {{ site = "fra", address = "{fra}" }}, {{ site = "nrt", address = "{nrt}" }} ]
[admin]
listen = "{admin}"
{more}
"#
        );
        fs::write(folder.path().join("hook.secret"), SECRET).unwrap();
        let fleet = Self {
            folder,
            admin: Admin(admin),
            hook: Hook::new(),
            addresses,
            endpoints: endpoints.map(Some),
        };
        fleet.write(&config);
        fleet
    }

    pub(crate) fn hook_table(&self, name: &str) -> String {
        let address = self.hook.address;
        format!(
            "\n[[notify]]\nname = \"{name}\"\nwebhook = {{ url = \"http://{address}/{name}\", secret_file = \
             \"hook.secret\" }}\nper_minute = 6000\ntries = 3\n"
        )
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("steer.toml")
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
    }

    /// Until the first round of checks is over and the channels run.
    pub(crate) fn start(&self) -> Steer {
        let mut steer = Steer::start(self.folder.path(), &["run", "--site", "fra"]);
        steer.until("the first round of checks", |steer| {
            steer
                .log()
                .contains("first round of checks is over")
                .then_some(())
        });
        let channels = self.text().matches("[[notify]]").count();
        steer.until("the channels", |_| {
            let list = self.admin.json(&["notify", "list"]);
            (list["channels"].as_array().unwrap().len() == channels).then_some(())
        });
        steer
    }

    /// Takes the endpoint of fra (0) or nrt (1) down.
    pub(crate) fn down(&mut self, which: usize) {
        self.endpoints[which] = None;
    }

    pub(crate) fn up(&mut self, which: usize) {
        self.endpoints[which] = Some(TcpListener::bind(self.addresses[which]).unwrap());
    }

    /// How events name it.
    pub(crate) fn name(&self, which: usize) -> String {
        format!("web/{}@{}", self.addresses[which], ["fra", "nrt"][which])
    }

    /// Waits until exactly these lines were taken, and nothing more comes for a while.
    pub(crate) fn until_told(&self, steer: &mut Steer, want: &[String]) {
        steer.until(&format!("{want:#?}, has {:#?}", self.hook.lines()), |_| {
            (self.hook.lines().len() >= want.len()).then_some(())
        });
        // Nothing can be waited for: that nothing more comes is what time shows.
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(self.hook.lines(), want, "{}", steer.log());
    }
}
