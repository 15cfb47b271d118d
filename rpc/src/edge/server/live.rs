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

use crate::edge::balance::{Balance, Standing};
use crate::edge::config::{Backends, ClientRules, EdgeConfig, FleetPool, ListenTls, PoolRules};
use crate::edge::members::{Latest, Members, NoMembers, View};
use crate::edge::meter::{Fates, Meters};
use crate::edge::proxy::{Group, Pool, Rules, Shared};
use crate::edge::rate::{Held, Rates};
use crate::edge::shed::Shedder;
use crate::edge::tls::{self, Current};
use crate::edge::trace::{Exporters, Tracer};
use crate::fate::Budget;
use crate::link::{KeepAlive, Links, Tls};

/// What holds for the edge.
#[derive(Debug)]
pub(super) struct Prepared {
    rules: Arc<Rules>,
    pools: Vec<Backing>,
    pub(super) clients: Arc<ClientRules>,
    pub(super) tls: Option<Listening>,
    drain: Duration,
    /// The same for all configurations of an edge.
    exporters: Arc<Exporters>,
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
struct Backing {
    group: Arc<Group>,
    /// Where they follow the fleet.
    fleet: Option<FleetPool>,
    addresses: Vec<SocketAddr>,
    rules: PoolRules,
    /// Where its rules say so.
    tls: Option<Arc<Current<ClientConfig>>>,
}

/// Why a configuration cannot hold.
#[derive(Debug, thiserror::Error)]
pub enum NotPrepared {
    /// A certificate, key or root.
    #[error(transparent)]
    Tls(#[from] io::Error),
    /// A pool that the fleet does not have so.
    #[error(transparent)]
    Members(#[from] NoMembers),
    /// There is no fleet.
    #[error(
        "backends = \"{0}\" is a pool of a fleet; write addresses, or have the edge within `steer run` ([edge] of steer.toml)"
    )]
    Alone(FleetPool),
}

/// What holds for the clients and calls of a worker.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) shared: Arc<Shared>,
    pub(super) clients: Arc<ClientRules>,
    pub(super) drain: Duration,
}

impl Prepared {
    /// Reads what files of TLS there are. With one before it, what has not changed is the same. `view`: the fleet, for an
    /// edge within one.
    pub(super) fn new(
        config: EdgeConfig,
        view: Option<&View>,
        before: Option<&Self>,
        now: Instant,
    ) -> Result<Self, NotPrepared> {
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
        let pools = config.pools.into_iter().map(|backends| {
            let rules = rules.next().unwrap_or_default();
            let known = before.map_or(&[][..], |before| &before.pools);
            Backing::new(backends, rules, (view, known), now)
        });
        let pools = pools.collect::<Result<_, NotPrepared>>()?;
        let snapshot = before.map_or_else(Latest::default, |before| before.rules.snapshot.clone());
        if let Some(view) = view {
            snapshot.set(view);
        }
        let exporters = before.map_or_else(Arc::default, |before| before.exporters.clone());
        let traces = config.traces.map(|rules| {
            let same = before.and_then(|before| before.rules.traces.clone());
            match same.filter(|tracer| *tracer.rules() == rules) {
                Some(same) => Ok(same),
                None => Tracer::start(rules, &exporters, now),
            }
        });
        Ok(Self {
            rules: Arc::new(Rules {
                priority: config.priority,
                rates,
                stall: config.clients.stall,
                policies: config.policies,
                web: config.grpc_web,
                reflection: config.reflection,
                traces: traces.transpose()?,
                snapshot,
            }),
            pools,
            clients: Arc::new(config.clients),
            tls: tls.transpose()?,
            drain: config.drain,
            exporters,
        })
    }

    /// Has the backends of pools of the fleet stand as in another snapshot. False: there are others, or a pool is gone, and another
    /// one has to be prepared.
    pub(super) fn follow(&self, view: &View, now: Instant) -> bool {
        self.rules.snapshot.set(view);
        let mut pools = self.pools.iter();
        pools.all(|backing| match &backing.fleet {
            None => true,
            Some(pool) => match view.members(pool) {
                Ok(Members { addresses, standings }) if addresses == backing.addresses => {
                    backing.stand(&standings, now);
                    true
                }
                Ok(_) | Err(_) => false,
            },
        })
    }

    /// No call is left: what is not exported yet is, or dropped when that takes too long.
    pub(super) async fn flush(&self) {
        if let Some(tracer) = &self.rules.traces {
            tracer.close();
        }
        self.exporters.finish().await;
    }

    /// The rates of clients.
    pub(super) fn rates(&self) -> Held {
        self.rules.rates.clone()
    }

    /// For a worker, that had another one before.
    pub(super) fn live(&self, before: Option<&Live>) -> Live {
        let known = before.map_or(&[][..], |before| &before.shared.pools);
        let pool = |backends: &Backing| {
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

impl Backing {
    /// What is `known` with the same rules and addresses goes on as it is, but for how its backends stand.
    fn new(
        backends: Backends,
        rules: PoolRules,
        (view, known): (Option<&View>, &[Self]),
        now: Instant,
    ) -> Result<Self, NotPrepared> {
        let (fleet, members) = match backends {
            Backends::Addresses(addresses) => (None, Members::fixed(addresses)),
            Backends::Fleet(pool) => {
                let view = view.ok_or_else(|| NotPrepared::Alone(pool.clone()))?;
                let members = view.members(&pool)?;
                (Some(pool), members)
            }
        };
        let Members { addresses, standings } = members;
        let is_same = |known: &&Self| known.rules == rules && known.addresses == addresses;
        let backing = match known.iter().find(is_same) {
            Some(same) => Self {
                fleet,
                ..same.clone()
            },
            None => Self::fresh(fleet, addresses, rules, now)?,
        };
        backing.stand(&standings, now);
        Ok(backing)
    }

    /// How its backends stand in the fleet.
    fn stand(&self, standings: &[Standing], now: Instant) {
        if self.group.balance().stand(standings, now) {
            let used = standings.iter().filter(|standing| standing.is_used).count();
            tracing::debug!(pool = %self.group.name, used, of = standings.len(), "backends in service");
        }
    }

    fn fresh(
        fleet: Option<FleetPool>,
        addresses: Vec<SocketAddr>,
        rules: PoolRules,
        now: Instant,
    ) -> io::Result<Self> {
        let tls = rules.tls.as_ref().map(tls::backends).transpose()?;
        let group = Group {
            balance: Balance::new(addresses.len(), rules.balance.clone(), now).into(),
            name: SharedString::from(Arc::<str>::from(&*rules.name)),
            shedder: rules.concurrency.map(|rules| Shedder::new(rules, now)),
            budget: Budget::DEFAULT.into(),
        };
        Ok(Self {
            group: Arc::new(group),
            fleet,
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
