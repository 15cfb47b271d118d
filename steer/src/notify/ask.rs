//! `steer notify`: what waits to be told, what was not taken, and tests.

use comfy_table::{Cell, Color, Table};

use crate::admin::notify::{ChannelView, DeadView, NotifyView, Resent, Tested};
use crate::cli::NotifyCommand;
use crate::client::{self, AdminClient, told};
use crate::exit::Failure;
use crate::moment::ago;
use crate::{runtimes, table};

/// Asks a running steer.
pub(crate) fn run(command: &NotifyCommand) -> Result<(), Failure> {
    runtimes::serving()?.block_on(async {
        match command {
            NotifyCommand::List { admin, json } => {
                let view = AdminClient::new(admin.admin)?.json("/v1/notify", &[]).await?;
                told(*json, &view, list)
            }
            NotifyCommand::Test { channel, admin, json } => {
                let path = ["v1", "notify", channel, "test"];
                let client = AdminClient::new(admin.admin)?;
                let done = client.post(&path, &[], &serde_json::Value::Null).await?;
                told(*json, &done, |Tested { channel, id }: &Tested| {
                    format!("{channel} took a test letter, {id}")
                })
            }
            NotifyCommand::Resend {
                channel,
                ids,
                admin,
                json,
            } => {
                let path = ["v1", "notify", channel, "resend"];
                let client = AdminClient::new(admin.admin)?;
                let done = client
                    .post(&path, &[], &serde_json::json!({ "ids": ids }))
                    .await?;
                told(*json, &done, |Resent { channel, resent }: &Resent| match resent {
                    0 => format!("{channel} has no dead letters"),
                    1 => format!("1 letter waits for {channel} again"),
                    many => format!("{many} letters wait for {channel} again"),
                })
            }
        }
    })
}

fn list(view: &NotifyView) -> String {
    let NotifyView { kept, channels, dead } = view;
    if channels.is_empty() {
        return "this steer tells nobody: its configuration has no [[notify]]".to_owned();
    }
    let color = client::color();
    let mut text = table::text(channel_table(channels, color), None);
    if !dead.is_empty() {
        text.push_str(&format!("\n\n{}", table::text(dead_table(dead, color), None)));
    }
    if !kept {
        text.push_str(
            "\n\nwhat waits ends with the process: [fleet] store is not written, or its file cannot be used",
        );
    }
    text
}

/// The channels, also for the status.
pub(crate) fn channel_table(channels: &[ChannelView], color: bool) -> Table {
    let mut table = table::new(
        &["notify", "to", "waiting", "dead", "told", "last told", "note"],
        color,
    );
    for channel in channels {
        let note = match (&channel.trouble, channel.tells) {
            (Some(why), _) if channel.away => {
                Cell::new(format!("nobody takes letters: {why}")).fg(Color::Red)
            }
            (Some(why), _) => Cell::new(format!("failed: {why}")).fg(Color::Yellow),
            (None, true) => Cell::new(""),
            (None, false) => Cell::new("other sites tell"),
        };
        let dead = match channel.dead {
            0 => Cell::new(0),
            dead => Cell::new(dead).fg(Color::Red),
        };
        table.add_row([
            Cell::new(&channel.channel),
            Cell::new(&channel.to),
            Cell::new(channel.waiting),
            dead,
            Cell::new(channel.told),
            Cell::new(channel.last_told.map_or_else(|| "-".to_owned(), ago)),
            note,
        ]);
    }
    table
}

fn dead_table(dead: &[DeadView], color: bool) -> Table {
    let mut table = table::new(
        &["dead letter", "channel", "since", "tries", "text", "why"],
        color,
    );
    for letter in dead {
        table.add_row([
            Cell::new(&letter.id),
            Cell::new(&letter.channel),
            Cell::new(letter.died.map_or_else(|| "-".to_owned(), ago)),
            Cell::new(letter.tries),
            Cell::new(&letter.text),
            Cell::new(&letter.why),
        ]);
    }
    table
}
