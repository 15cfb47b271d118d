//! The gossip in the status: who is there, and who says what of which endpoint.

use comfy_table::{Cell, Color, Table};
use jiff::Timestamp;
use serde::Serialize;
use steer_health::gossip::quorum::{Tally, Vote};
use steer_health::gossip::swim::{MemberState, MemberView};
use steer_health::gossip::{GossipHandle, GossipView, SiteName};
use steer_topology::Fleet;

use crate::moment::ago;
use crate::table;

/// Members and votes.
#[derive(Debug, Serialize)]
pub(super) struct GossipRows {
    members: Vec<MemberView>,
    /// Sites that see most of the others down; they count a quarter.
    suspects: Vec<SiteName>,
    /// Words held of all sites.
    observations: usize,
    /// One for each endpoint that the sites agree on.
    votes: Vec<VotesRow>,
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
            suspects,
            observations,
            votes,
        } = gossip.view();
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
            suspects,
            observations,
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
            let note = if self.suspects.contains(&member.site) {
                "sees most of the others down: counts a quarter"
            } else {
                ""
            };
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
