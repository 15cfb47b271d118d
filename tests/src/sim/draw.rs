//! Which fleet a seed draws: sites, endpoints, checks, guard, names and prefixes, as a `steer.toml` like any other.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use steer_dns::Zones;
use steer_health::gossip::observation::Key;
use steer_topology::{Classes, EndpointId, Fleet, Resolve, airports};

/// The most sites and endpoints that a seed draws.
pub const SITES_MAX: usize = 200;
/// See [`SITES_MAX`].
pub const ENDPOINTS_MAX: usize = 2_000;

/// One seed in so many has a fleet of [`SITES_MAX`] and [`ENDPOINTS_MAX`].
const LARGE_EVERY: u64 = 250;

/// Fleets of more sites are large ones.
pub const SMALL_MAX: usize = 50;

/// What a configuration says that the simulated operators change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The path that the checks ask for; anything but [`GOOD_PATH`] is answered with 404 everywhere.
    pub path: &'static str,
    /// `[fleet] guard`
    pub guard: (u16, u16, u32),
    /// Whether the last pool has its last endpoint.
    pub is_whole: bool,
    /// How many sites look at each endpoint; `None`: all.
    pub vantage_points: Option<u16>,
}

/// What healthy endpoints answer.
pub const GOOD_PATH: &str = "/healthz";

/// The shape that stays the same whatever operators do.
#[derive(Debug, Clone)]
pub struct Shape {
    /// IATA codes.
    pub sites: Vec<&'static str>,
    /// By pool: the sites of its endpoints.
    pools: Vec<Vec<usize>>,
    interval_ms: u32,
    timeout_ms: u32,
    fall: u8,
    rise: u8,
    /// What the file may say of its vantage points; `None`: nothing ever.
    few: Option<u16>,
    own_after_s: u32,
    chains: Vec<&'static str>,
    if_all_down: Vec<&'static str>,
    route: Route,
    needs: bool,
}

#[derive(Debug, Clone)]
struct Route {
    rise_s: u32,
    fall_s: u32,
    hold_down_s: u32,
    ladder: &'static str,
}

/// A checked configuration with what is made of its files.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// Its zones.
    pub zones: Arc<Zones>,
    /// Its client classes: one, for no chain asks where a client is.
    pub classes: Arc<Classes>,
    /// What its endpoints are called in the gossip.
    pub keys: Arc<Keys>,
}

/// The keys of a fleet's endpoints, both ways: each is a digest, and every probe asks for one.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<Key>,
    ids: HashMap<Key, EndpointId>,
}

impl Keys {
    fn of(fleet: &Fleet) -> Self {
        let keys: Vec<_> = fleet.endpoint_ids().map(|id| Key::of(fleet, id)).collect();
        let ids = keys.iter().copied().zip(fleet.endpoint_ids()).collect();
        Self { keys, ids }
    }

    /// The key of an endpoint.
    #[must_use]
    pub fn key(&self, id: EndpointId) -> Key {
        self.keys[id.0 as usize]
    }

    /// The endpoint of a key.
    #[must_use]
    pub fn id(&self, key: Key) -> Option<EndpointId> {
        self.ids.get(&key).copied()
    }
}

/// How large a fleet shall be; what is `None` is drawn.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Sites.
    pub sites: Option<usize>,
    /// Endpoints.
    pub endpoints: Option<usize>,
}

impl Shape {
    /// Draws a fleet.
    pub fn draw(seed: u64, size: Size, random: &mut StdRng) -> Self {
        let is_large = seed % LARGE_EVERY == LARGE_EVERY - 1;
        let small = match random.random_range(0..10) {
            0..7 => random.random_range(3..=8),
            _ => random.random_range(9..=20),
        };
        let drawn = if is_large { SITES_MAX } else { small };
        let count = size.sites.unwrap_or(drawn).clamp(1, SITES_MAX);
        let per_site = random.random_range(1..=4);
        let drawn = if is_large { ENDPOINTS_MAX } else { count * per_site };
        let endpoints = size.endpoints.unwrap_or(drawn).clamp(count, ENDPOINTS_MAX);
        let sites = draw_sites(count, random);
        let pools = draw_pools(count, endpoints, random);
        let interval_ms = if count > SMALL_MAX {
            5_000
        } else {
            [1_000, 1_000, 2_000][random.random_range(0..3)]
        };
        Self {
            chains: pools.iter().map(|_| one_of(random, &CHAINS)).collect(),
            if_all_down: pools.iter().map(|_| one_of(random, &ALL_DOWN)).collect(),
            sites,
            pools,
            interval_ms,
            timeout_ms: 900,
            fall: random.random_range(2..=4),
            rise: random.random_range(1..=3),
            few: few(seed, count),
            own_after_s: random.random_range(5..=20),
            route: Route {
                rise_s: one_of(random, &[0, 0, 2]),
                fall_s: one_of(random, &[0, 0, 0, 3]),
                hold_down_s: one_of(random, &[0, 5]),
                ladder: one_of(random, &LADDERS),
            },
            needs: random.random_bool(0.3),
        }
    }

    /// What the fleet begins with.
    pub fn first_variant(&self, random: &mut StdRng) -> Variant {
        Variant {
            path: GOOD_PATH,
            guard: draw_guard(random),
            is_whole: true,
            vantage_points: self.few,
        }
    }

    /// What an operator writes who thinks otherwise of the vantage points. In a large fleet nobody does: each of its sites would
    /// probe all endpoints.
    #[must_use]
    pub fn other_vantage_points(&self, variant: &Variant) -> Option<Variant> {
        let few = self.few.filter(|_| self.sites.len() <= SMALL_MAX)?;
        Some(Variant {
            vantage_points: variant.vantage_points.xor(Some(few)),
            ..variant.clone()
        })
    }

    /// As a file.
    #[must_use]
    pub fn text(&self, variant: &Variant) -> String {
        let mut text = String::new();
        let (keep, max, window) = variant.guard;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "[fleet]\nname = \"sim\"\ngossip = {{ key_file = \"gossip.key\", own_after = \"{}s\" }}\n\
             guard = {{ keep_sites = {keep}, max_withdrawn = {max}, window = \"{window}s\" }}",
            self.own_after_s
        );
        for (number, site) in self.sites.iter().enumerate() {
            let (high, low) = (number / 200, number % 200 + 1);
            let _ = writeln!(
                text,
                "[[site]]\nname = \"{site}\"\nrouter_id = \"10.0.{high}.{low}\"\ngossip = \"10.0.{high}.{low}:7946\"\ncapacity = 1000"
            );
        }
        let _ = writeln!(
            text,
            "[[check]]\nname = \"web\"\nkind = \"http\"\npath = \"{}\"\ninterval = \"{}ms\"\ntimeout = \"{}ms\"\nfall = {}\nrise = {}",
            variant.path, self.interval_ms, self.timeout_ms, self.fall, self.rise
        );
        if let Some(points) = variant.vantage_points {
            let _ = writeln!(text, "vantage_points = {points}");
        }
        self.pools_text(variant, &mut text);
        let _ = writeln!(
            text,
            "[dns]\nlisten = \"127.0.0.1:5300\"\n[[zone]]\nname = \"sim.example\"\nfile = \"sim.zone\""
        );
        for (pool, (chain, rule)) in self.chains.iter().zip(&self.if_all_down).enumerate() {
            let _ = writeln!(
                text,
                "[[steer]]\nname = \"p{pool}.sim.example\"\npool = \"p{pool}\"\nttl = \"20s\"\nchain = {chain}\nif_all_down = \"{rule}\""
            );
        }
        self.routes_text(variant, &mut text);
        text
    }

    fn pools_text(&self, variant: &Variant, text: &mut String) {
        for (number, members) in self.pools.iter().enumerate() {
            let _ = writeln!(text, "[[pool]]\nname = \"p{number}\"\ncheck = \"web\"");
            let sites = sites_of(&members[..self.shown(number, variant)]);
            if self.needs && sites.len() > 2 {
                let _ = writeln!(text, "needs = {}", 1000 * (sites.len() / 2));
            }
            let shown = self.shown(number, variant);
            let lines = members[..shown].iter().enumerate().map(|(place, site)| {
                let address = format!("10.{}.{}.{}:80", 1 + number, place / 200, place % 200 + 1);
                format!("{{ site = \"{}\", address = \"{address}\" }}", self.sites[*site])
            });
            let _ = writeln!(text, "endpoints = [{}]", lines.collect::<Vec<_>>().join(", "));
        }
    }

    /// How many endpoints of a pool the file names.
    fn shown(&self, pool: usize, variant: &Variant) -> usize {
        let members = self.pools[pool].len();
        let is_short = pool == self.pools.len() - 1 && !variant.is_whole && members > 1;
        members - usize::from(is_short)
    }

    fn routes_text(&self, variant: &Variant, text: &mut String) {
        let _ = writeln!(text, "[bgp]\nasn = 64512");
        for peer in 0..PEERS {
            let _ = writeln!(
                text,
                "[[bgp.peer]]\naddress = \"192.0.2.{}\"\nasn = {}",
                peer + 1,
                64_500 + peer
            );
        }
        let Route {
            rise_s,
            fall_s,
            hold_down_s,
            ladder,
        } = &self.route;
        for (number, members) in self.pools.iter().enumerate() {
            let shown = &members[..self.shown(number, variant)];
            let sites: Vec<_> = sites_of(shown)
                .into_iter()
                .map(|site| format!("\"{}\"", self.sites[site]))
                .collect();
            let _ = writeln!(
                text,
                "[[anycast]]\nprefix = \"198.51.{}.{}/32\"\nsites = [{}]\nwhile_up = \"pool:p{number}@local\"\n\
                 rise = \"{rise_s}s\"\nfall = \"{fall_s}s\"\nhold_down = \"{hold_down_s}s\"\non_drain = {ladder}",
                number / 200,
                number % 200 + 1,
                sites.join(", ")
            );
        }
    }

    /// Reads a file as `steer check` does.
    ///
    /// # Errors
    /// Every fault, as text.
    pub fn load(text: &str) -> Result<Loaded, String> {
        let folder = folder()?;
        // What a run tells must not depend on where its files are.
        let told =
            |faults: steer_topology::Faults| faults.to_string().replace(&*folder.to_string_lossy(), "");
        let fleet = Fleet::parse(text, &folder.join("steer.toml"), &NoNames).map_err(told)?;
        let zones = Zones::load(&fleet).map_err(|faults| faults.to_string())?;
        Ok(Loaded {
            keys: Arc::new(Keys::of(&fleet)),
            fleet: Arc::new(fleet),
            zones: Arc::new(zones),
            classes: Arc::new(Classes::single()),
        })
    }
}

/// Peers of each site.
pub const PEERS: usize = 2;

const CHAINS: [&str; 4] = [
    "[\"up\", \"weighted\"]",
    "[\"up\", \"shuffle\", \"take 2\"]",
    "[\"up\"]",
    "[\"up\", \"sticky\", \"take 1\"]",
];

const ALL_DOWN: [&str; 3] = ["serve-all", "nodata", "serve-last-good"];

const LADDERS: [&str; 3] = [
    "\"withdraw\"",
    "[\"graceful-shutdown\", \"wait 3s\", \"prepend 2\", \"wait 5s\", \"withdraw\"]",
    "[\"prepend 3\", \"wait dns-horizon\", \"withdraw\"]",
];

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<std::net::SocketAddr>> {
        Ok(Vec::new())
    }
}

/// The guard of a configuration: keep, at most, within seconds.
pub fn draw_guard(random: &mut StdRng) -> (u16, u16, u32) {
    (
        random.random_range(0..=2),
        random.random_range(1..=3),
        one_of(random, &[20, 60, 120]),
    )
}

fn sites_of(members: &[usize]) -> Vec<usize> {
    let mut sites = members.to_vec();
    sites.sort_unstable();
    sites.dedup();
    sites
}

/// In every third fleet few sites look at each endpoint, and in every large one.
fn few(seed: u64, sites: usize) -> Option<u16> {
    if sites > SMALL_MAX {
        return Some(5);
    }
    let few = [3, 4, 5, 7][(seed / 3 % 4) as usize];
    (seed.is_multiple_of(3) && usize::from(few) < sites).then_some(few)
}

/// Airports of all continents.
fn draw_sites(count: usize, random: &mut StdRng) -> Vec<&'static str> {
    const KNOWN: [&str; 24] = [
        "fra", "ams", "lhr", "cdg", "mad", "waw", "jfk", "iad", "ord", "lax", "sea", "yyz", "nrt", "hnd",
        "sin", "hkg", "icn", "bom", "gru", "scl", "syd", "akl", "jnb", "nbo",
    ];
    let mut known = KNOWN.to_vec();
    known.shuffle(random);
    while known.len() < count {
        let code: String = (0..3)
            .map(|_| char::from(random.random_range(b'a'..=b'z')))
            .collect();
        if let Some(airport) = airports::find(&code).filter(|airport| !known.contains(&airport.code)) {
            known.push(airport.code);
        }
    }
    known.truncate(count);
    known
}

/// Every pool has endpoints at several sites, every site has some.
fn draw_pools(sites: usize, endpoints: usize, random: &mut StdRng) -> Vec<Vec<usize>> {
    let count = (endpoints / 8).clamp(1, 20).min(endpoints);
    let mut pools: Vec<Vec<usize>> = vec![Vec::new(); count];
    for number in 0..endpoints {
        let site = if number < sites {
            number
        } else {
            random.random_range(0..sites)
        };
        let pool = if number < count {
            number
        } else {
            random.random_range(0..count)
        };
        pools[pool].push(site);
    }
    pools
}

fn one_of<T: Copy>(random: &mut impl Rng, of: &[T]) -> T {
    of[random.random_range(0..of.len())]
}

/// Where the files lie that a configuration names.
fn folder() -> Result<&'static Path, String> {
    static FOLDER: OnceLock<Result<(PathBuf, tempfile::TempDir), String>> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        let zone = "$TTL 300\n@ SOA ns.sim.example. host.sim.example. 1 3600 600 86400 300\n@ NS ns\nns A 192.0.2.53\n";
        write("sim.zone", zone).map_err(|error| error.to_string())?;
        write("gossip.key", &"2a".repeat(32)).map_err(|error| error.to_string())?;
        Ok((folder.path().to_owned(), folder))
    });
    made.as_ref()
        .map(|(path, _)| path.as_path())
        .map_err(Clone::clone)
}
