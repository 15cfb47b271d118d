//! What goes wrong.

use rand::RngExt;

use super::caller::Caller;
use super::service::Service;
use super::{MS, NodeId, Role, What, World};

impl World {
    pub(super) fn fault(&mut self) {
        if !self.is_chaos() {
            return;
        }
        match self.rng.random_range(0..12) {
            0..3 => self.crash(),
            3..5 => self.pause(),
            5..8 => self.break_some(),
            8..11 => {
                let node = self.some_server();
                self.drain(node);
            }
            _ => self.db.down_until = self.now + self.rng.random_range(100..1500) * MS,
        }
        let wait = self.rng.random_range(20..600) * MS;
        self.at(wait, What::Fault);
    }

    fn some_server(&mut self) -> NodeId {
        let servers = [self.of_role(&Role::Edge), self.of_role(&Role::Service)].concat();
        servers[self.rng.random_range(0..servers.len())]
    }

    /// kill -9: everything in memory is gone, and its peers learn of it, soon or late.
    fn crash(&mut self) {
        let node = self.some_server();
        if !self.nodes[node.0].is_up {
            return;
        }
        self.break_all(node);
        let life = self.nodes[node.0].life;
        // A host that is gone without a word keeps its claims until their leases end.
        if self.rng.random_bool(0.7) {
            let wait = self.rng.random_range(1..50) * MS;
            self.at(wait, What::SessionsEnd(node, life));
        }
        let state = &mut self.nodes[node.0];
        (state.is_up, state.paused) = (false, None);
        state.life += 1;
        (state.caller, state.service) = (Caller::default(), Service::default());
        let wait = self.rng.random_range(50..3000) * MS;
        self.at(wait, What::Restart(node));
    }

    /// SIGSTOP, or a collector: it goes on later as if nothing had been.
    fn pause(&mut self) {
        let node = self.some_server();
        let until = self.now + self.rng.random_range(50..4000) * MS;
        self.nodes[node.0].paused = Some(until);
    }

    fn break_some(&mut self) {
        if !self.conns.is_empty() {
            // One of the younger ones: most of the old are broken.
            let from = self.conns.len().saturating_sub(12);
            let conn = self.rng.random_range(from..self.conns.len());
            self.break_conn(conn);
        }
    }
}
