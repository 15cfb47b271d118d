//! The BGP sessions of a site: the real reconciler on our side, and a peer that believes what it decodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use steer_anycast::reconcile::{Encodings, Reconciler, Terms};
use steer_anycast::wanted::Wanted;
use steer_anycast::wire::{self, Context, MAX_LENGTH, Message, Path};
use steer_topology::{Asn, Prefix};

use super::draw::PEERS;
use super::watch::{Broken, Rule};

/// Octets that are sent at once.
const ROOM: usize = 64 * 1024;

/// All sessions of one site.
#[derive(Debug)]
pub struct Sessions(Vec<Session>);

#[derive(Debug)]
struct Session {
    peer: IpAddr,
    local: IpAddr,
    /// Present while the session is up.
    reconciler: Option<Reconciler>,
    /// What the peer has.
    routes: BTreeMap<Prefix, Path>,
}

impl Sessions {
    /// Down, all of them.
    #[must_use]
    pub fn new(site: u16) -> Self {
        let [high, low] = site.to_be_bytes();
        let session = |peer: usize| Session {
            peer: IpAddr::from([192, 0, 2, u8::try_from(peer + 1).unwrap_or(u8::MAX)]),
            local: IpAddr::from([172, 16 + high, low, 1]),
            reconciler: None,
            routes: BTreeMap::new(),
        };
        Self((0..PEERS).map(session).collect())
    }

    /// One comes up, and is told all.
    ///
    /// # Errors
    /// The peer then has something else than is wanted.
    pub fn up(&mut self, peer: usize, wanted: &Wanted) -> Result<(), Broken> {
        let asn = Asn::new(64_512).ok_or_else(|| Rule::Routes.broken("no AS number"))?;
        let Some(session) = self
            .0
            .get_mut(peer)
            .filter(|session| session.reconciler.is_none())
        else {
            return Ok(());
        };
        let terms = Terms::basic(asn, session.local.into(), session.peer);
        session.reconciler = Some(Reconciler::new(terms, Arc::new(Encodings::default())));
        session.send(wanted)
    }

    /// One breaks: without graceful restart the peer forgets all.
    pub fn down_one(&mut self, peer: usize) {
        if let Some(session) = self.0.get_mut(peer) {
            session.reconciler = None;
            session.routes.clear();
        }
    }

    /// All break.
    pub fn all_down(&mut self) {
        (0..self.0.len()).for_each(|peer| self.down_one(peer));
    }

    /// Those that are down.
    #[must_use]
    pub fn down(&self) -> Vec<usize> {
        let down = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, session)| session.reconciler.is_none());
        down.map(|(peer, _)| peer).collect()
    }

    /// Routes that peers have, all together.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.iter().map(|session| session.routes.len()).sum()
    }

    /// Something else is wanted of these prefixes.
    ///
    /// # Errors
    /// A peer then has something else than is wanted.
    pub fn reconcile(&mut self, wanted: &Wanted, changed: &BTreeSet<Prefix>) -> Result<(), Broken> {
        let changed: Vec<_> = changed.iter().copied().collect();
        for session in &mut self.0 {
            if let Some(reconciler) = &mut session.reconciler {
                reconciler.touch(&changed);
                session.send(wanted)?;
            }
        }
        Ok(())
    }

    /// Whether each peer has what is wanted, and nothing else.
    ///
    /// # Errors
    /// It has not.
    pub fn check(&self, wanted: &Wanted) -> Result<(), Broken> {
        self.0.iter().try_for_each(|session| session.check(wanted))
    }
}

impl Session {
    fn send(&mut self, wanted: &Wanted) -> Result<(), Broken> {
        let Some(reconciler) = &mut self.reconciler else {
            return Ok(());
        };
        loop {
            let batch = reconciler.reconcile(wanted, ROOM);
            for message in &batch.messages {
                take(&mut self.routes, message)?;
            }
            if batch.complete {
                return self.check(wanted);
            }
        }
    }

    fn check(&self, wanted: &Wanted) -> Result<(), Broken> {
        if self.reconciler.is_none() {
            return Ok(());
        }
        let wants = wanted.prefixes.iter().filter(|(_, decision)| decision.announce);
        let wants: BTreeMap<_, _> = wants.collect();
        if !self.routes.keys().eq(wants.keys().copied()) {
            return Err(Rule::Routes.broken(format!(
                "peer {} has {:?}, and wanted are {:?}",
                self.peer,
                self.routes.keys(),
                wants.keys()
            )));
        }
        for (prefix, decision) in wants {
            let path = &self.routes[prefix];
            // A drain's prepends come on top of our own AS number.
            let long = usize::from(decision.policy.prepend) + 1;
            // The only one that these fleets have is that of a drain.
            let tagged = decision.policy.communities.len();
            if path.asns().count() != long || path.communities.len() != tagged {
                return Err(Rule::Routes.broken(format!(
                    "peer {} has {prefix} with {path:?}, and wanted is {:?}",
                    self.peer, decision.policy
                )));
            }
        }
        Ok(())
    }
}

fn take(routes: &mut BTreeMap<Prefix, Path>, message: &[u8]) -> Result<(), Broken> {
    let broken =
        |error: wire::Malformed| Rule::Routes.broken(format!("a peer cannot read what we send: {error:?}"));
    let mut buffer = BytesMut::from(message);
    while let Some(frame) = wire::take_frame(&mut buffer, MAX_LENGTH).map_err(broken)? {
        let Message::Update(update) = wire::decode(&frame, Context::PLAIN).map_err(broken)? else {
            continue;
        };
        if !update.faults.is_empty() {
            return Err(Rule::Routes.broken(format!("an UPDATE with faults: {:?}", update.faults)));
        }
        for prefix in update.withdrawn {
            routes.remove(&prefix);
        }
        for reach in update.reachable {
            for prefix in reach.prefixes {
                let path = update.path.clone().unwrap_or_default();
                routes.insert(prefix, path);
            }
        }
    }
    Ok(())
}
