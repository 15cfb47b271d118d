//! The gossip in the status: who is there, and who says what of which endpoint.

use comfy_table::{Cell, Color, Table};
use jiff::Timestamp;
use serde::Serialize;
use steer_health::gossip::quorum::{Tally, Vote};
use steer_health::gossip::rollout::{Stage, Word};
use steer_health::gossip::swim::{MemberState, MemberView};
use steer_health::gossip::{GossipHandle, GossipView, SiteName};
use steer_topology::Fleet;

use crate::moment::ago;
use crate::table;

/// Members and votes.
#[derive(Debug, Serialize)]
pub(super) struct GossipRows {
    members: Vec<MemberView>,
    /// Is it us? From 0, well, to 8.
    local_health: u8,
    /// Sites that see most of the others down; they count a quarter.
    suspects: Vec<SiteName>,
    /// Those of them that see all reference targets down too.
    isolated: Vec<SiteName>,
    /// Words held of all sites.
    observations: usize,
    /// How far each site is with its newest file, where they take one after the other.
    rollouts: Vec<RolloutRow>,
    /// One for each endpoint that the sites agree on.
    votes: Vec<VotesRow>,
}

#[derive(Debug, Serialize)]
struct RolloutRow {
    site: SiteName,
    #[serde(flatten)]
    word: Word,
}

#[derive(Debug, Serialize)]
struct VotesRow {
    pool: String,
    site: Option<String>,
    address: String,
    #[serde(flatten)]
    tally: Tally,
}

impl GossipRows {
    pub(super) fn of(gossip: &GossipHandle, fleet: &Fleet) -> Self {
        let GossipView {
            members,
            local_health,
            suspects,
            isolated,
            observations,
            votes,
        } = gossip.view();
        let rollouts = gossip.rollouts();
        // During a reload the gossip may be of the next fleet already.
        let known = votes
            .into_iter()
            .filter(|(id, _)| (id.0 as usize) < fleet.endpoints.len());
        let votes = known.map(|(id, tally)| {
            let endpoint = fleet.endpoint(id);
            VotesRow {
                pool: fleet.pool(endpoint.pool).name.clone(),
                site: endpoint.site.map(|site| fleet.site(site).name.clone()),
                address: endpoint.address.to_string(),
                tally,
            }
        });
        Self {
            votes: votes.collect(),
            members,
            local_health,
            suspects,
            isolated,
            observations,
            rollouts: rollouts
                .into_iter()
                .map(|(site, word)| RolloutRow { site, word })
                .collect(),
        }
    }

    /// Members, and the votes on what not all see up.
    pub(super) fn render(&self, color: bool, width: Option<u16>) -> String {
        let mut text = format!("\n{}\n", table::text(self.member_table(color), width));
        let doubtful: Vec<_> = self.votes.iter().filter(|row| row.tally.down > 0).collect();
        if !doubtful.is_empty() {
            text.push_str(&format!(
                "\n{}\n",
                table::text(vote_table(&doubtful, color), width)
            ));
        }
        text
    }

    fn member_table(&self, color: bool) -> Table {
        let mut table = table::new(&["member", "gossip", "state", "since", "note"], color);
        for member in &self.members {
            let (state, shade) = match member.state {
                MemberState::Own => ("own", Color::Green),
                MemberState::Up => ("up", Color::Green),
                MemberState::Suspect => ("suspect", Color::Yellow),
                MemberState::Down => ("down", Color::Red),
                MemberState::Absent => ("absent", Color::Red),
            };
            let note = self.note(member);
            table.add_row([
                Cell::new(member.site),
                Cell::new(member.address),
                Cell::new(state).fg(shade),
                Cell::new(
                    member
                        .since
                        .map_or_else(|| "-".to_owned(), |since: Timestamp| ago(since)),
                ),
                Cell::new(note),
            ]);
        }
        table
    }
}

impl GossipRows {
    fn note(&self, member: &MemberView) -> String {
        let mut notes = Vec::new();
        if self.isolated.contains(&member.site) {
            notes.push("isolated, reference targets fail too: counts a quarter".to_owned());
        } else if self.suspects.contains(&member.site) {
            notes.push("sees most of the others down: counts a quarter".to_owned());
        }
        if member.state == MemberState::Own && self.local_health > 0 {
            let slower = self.local_health + 1;
            notes.push(format!(
                "not well itself (local health {}): calls others gone {slower} x slower",
                self.local_health
            ));
        }
        if let Some(row) = self.rollouts.iter().find(|row| row.site == member.site) {
            let (digest, stage) = (&row.word.digest.to_string()[..8], row.word.stage.as_str());
            notes.push(match &row.word.stage {
                Stage::Waiting | Stage::Trial | Stage::Good => format!("file {digest}: {stage}"),
                Stage::Bad(reason) => format!("file {digest}: {stage}, lost {reason}"),
            });
        }
        notes.join("; ")
    }
}

fn vote_table(rows: &[&VotesRow], color: bool) -> Table {
    let mut table = table::new(&["pool", "site", "address", "votes", "says"], color);
    for row in rows {
        let counted = row.tally.votes.iter().filter(|vote| vote.void.is_none());
        let said: Vec<_> = counted.map(said).collect();
        table.add_row([
            Cell::new(&row.pool),
            Cell::new(row.site.as_deref().unwrap_or("-")),
            Cell::new(&row.address),
            Cell::new(&row.tally),
            Cell::new(said.join(", ")),
        ]);
    }
    table
}

/// "fra down (a quarter)"
fn said(vote: &Vote) -> String {
    let quarter = if vote.suspect { " (a quarter)" } else { "" };
    format!("{} {}{quarter}", vote.site, vote.verdict.as_str())
}
