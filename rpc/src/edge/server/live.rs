//! What a configuration makes of itself, and what another one leaves of it: [`Prepared`] for the edge, [`Live`] for each worker.
//!
//! A call and a connection go on with what they began with. What has not changed stays as it is: the ejections, limits and
//! budgets of a pool, the connections to its backends, and the rates of clients.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::SharedString;
use rustls::{ClientConfig, ServerConfig};

use crate::edge::balance::Balance;
use crate::edge::config::{ClientRules, EdgeConfig, ListenTls, PoolRules};
use crate::edge::meter::{Fates, Meters};
use crate::edge::proxy::{Group, Pool, Rules, Shared};
use crate::edge::rate::{Held, Rates};
use crate::edge::shed::Shedder;
use crate::edge::tls::{self, Current};
use crate::fate::Budget;
use crate::link::{KeepAlive, Links, Tls};

/// What holds for the edge.
#[derive(Debug)]
pub(super) struct Prepared {
    rules: Arc<Rules>,
    pools: Vec<Backends>,
    pub(super) clients: Arc<ClientRules>,
    pub(super) tls: Option<Listening>,
    drain: Duration,
}

/// The certificate that clients see.
#[derive(Debug, Clone)]
pub(super) struct Listening {
    files: ListenTls,
    current: Arc<Current<ServerConfig>>,
}

impl Listening {
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.current.get().value.clone()
    }
}

/// The backends of a pool, from which each worker makes its connections.
#[derive(Debug, Clone)]
struct Backends {
    group: Arc<Group>,
    addresses: Vec<SocketAddr>,
    rules: PoolRules,
    /// Where its rules say so.
    tls: Option<Arc<Current<ClientConfig>>>,
}

/// What holds for the clients and calls of a worker.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) shared: Arc<Shared>,
    pub(super) clients: Arc<ClientRules>,
    pub(super) drain: Duration,
}

impl Prepared {
    /// Reads what files of TLS there are. With one before it, what has not changed is the same.
    pub(super) fn new(config: EdgeConfig, before: Option<&Self>, now: Instant) -> io::Result<Self> {
        let rates = config.rate_limit.map(|rules| {
            let same = before.and_then(|before| before.rules.rates.clone());
            let has_those = |rates: &Arc<Mutex<Rates>>| {
                *rates.lock().unwrap_or_else(PoisonError::into_inner).rules() == rules
            };
            same.filter(has_those)
                .unwrap_or_else(|| Arc::new(Rates::new(rules, now).into()))
        });
        let tls = config.tls.map(|files| {
            let same = before.and_then(|before| before.tls.as_ref());
            match same.filter(|before| before.files == files) {
                Some(same) => Ok(same.clone()),
                None => tls::listener(files.clone()).map(|current| Listening { files, current }),
            }
        });
        let mut rules = config.pool_rules.into_iter();
        let pools = config.pools.into_iter().map(|addresses| {
            let rules = rules.next().unwrap_or_default();
            let mut known = before.iter().flat_map(|before| &before.pools);
            match known.find(|known| known.rules == rules && known.addresses == addresses) {
                Some(same) => Ok(same.clone()),
                None => Backends::new(addresses, rules, now),
            }
        });
        Ok(Self {
            rules: Arc::new(Rules {
                priority: config.priority,
                rates,
                stall: config.clients.stall,
                policies: config.policies,
                web: config.grpc_web,
            }),
            pools: pools.collect::<io::Result<_>>()?,
            clients: Arc::new(config.clients),
            tls: tls.transpose()?,
            drain: config.drain,
        })
    }

    /// The rates of clients.
    pub(super) fn rates(&self) -> Held {
        self.rules.rates.clone()
    }

    /// For a worker, that had another one before.
    pub(super) fn live(&self, before: Option<&Live>) -> Live {
        let known = before.map_or(&[][..], |before| &before.shared.pools);
        let pool = |backends: &Backends| {
            let same = known
                .iter()
                .find(|pool| Arc::ptr_eq(&pool.group, &backends.group));
            same.cloned().unwrap_or_else(|| Arc::new(backends.pool()))
        };
        let shared = Shared {
            rules: self.rules.clone(),
            pools: self.pools.iter().map(pool).collect(),
            fates: Fates::new(),
        };
        Live {
            shared: Arc::new(shared),
            clients: self.clients.clone(),
            drain: self.drain,
        }
    }
}

impl Backends {
    fn new(addresses: Vec<SocketAddr>, rules: PoolRules, now: Instant) -> io::Result<Self> {
        let tls = rules.tls.as_ref().map(tls::backends).transpose()?;
        let group = Group {
            balance: Balance::new(addresses.len(), rules.balance.clone(), now).into(),
            name: SharedString::from(Arc::<str>::from(&*rules.name)),
            shedder: rules.concurrency.map(|rules| Shedder::new(rules, now)),
            budget: Budget::DEFAULT.into(),
        };
        Ok(Self {
            group: Arc::new(group),
            addresses,
            rules,
            tls,
        })
    }

    /// With connections of its own.
    fn pool(&self) -> Pool {
        let side = |address| {
            let (tls, current) = (self.rules.tls.as_ref()?, self.tls.clone()?);
            let trust = Box::new(move || {
                let current = current.get();
                (current.value.clone(), current.number)
            });
            let name = tls::name_of(tls, address);
            Some(Tls { trust, name })
        };
        let links = |address: &SocketAddr| Arc::new(Links::new(*address, side(*address), KeepAlive::DEFAULT));
        Pool {
            group: self.group.clone(),
            backends: self.addresses.iter().map(links).collect(),
            meters: Meters::new(self.group.name.clone()),
        }
    }
}
