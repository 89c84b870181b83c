//! `dlq`: messages that no worker of the fleet could work on.

use comfy_table::{Table, presets};
use keyrotate_proto::api::{DeadLetterList, RequeueRequest, Requeued};

use crate::args::{DlqListArgs, DlqRequeueArgs, FleetArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::fleet::Fleet;
use crate::jobs::verbs::print;
use crate::jobs::{Ask, Jobs as _, read};
use crate::say;

/// Prints them.
pub(crate) async fn list(args: DlqListArgs) -> Result<Exit, Failure> {
    let ask = Ask::get(format!("/v1/dlq?limit={}", args.limit));
    let list: DeadLetterList = read(fleet(&args.fleet)?.ask_fleet(&ask).await?, "")?;
    print(args.output, &list, || shown(&list))?;
    Ok(Exit::Completed)
}

/// Settles them.
pub(crate) async fn requeue(args: DlqRequeueArgs) -> Result<Exit, Failure> {
    let asked = RequeueRequest { ids: args.ids, all: args.all, drop: args.drop };
    let body = Some(("application/json", serde_json::to_vec(&asked).unwrap_or_default()));
    let ask = Ask { method: "POST", path: "/v1/dlq/requeue".into(), body, idempotency_key: None };
    let done: Requeued = read(fleet(&args.fleet)?.ask_fleet(&ask).await?, "")?;
    print(args.output, &done, || said(&done))?;
    match done.missing.as_slice() {
        [] => Ok(Exit::Completed),
        missing => Err(Failure::usage(
            format!("there is no dead letter {}", missing.join(", ")),
            "`keyrotate dlq list` shows their ids",
        )),
    }
}

/// The fleet that is named; only a fleet has what these verbs are about.
pub(crate) fn fleet(args: &FleetArgs) -> Result<Fleet, Failure> {
    let flags = args.url.iter().map(|url| ("url", url.clone(), "--url")).collect();
    let config = crate::config::load(args.config.clone(), flags)?;
    let url = config
        .url
        .as_ref()
        .ok_or_else(|| Failure::usage("this is about a fleet, and none is named", "give --url or KEYROTATE_URL"))?;
    let fleet = Fleet::new(url, &config)?;
    say(&fleet.place());
    Ok(fleet)
}

fn shown(list: &DeadLetterList) -> String {
    if list.letters.is_empty() {
        return "no dead letters".into();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "SHARD", "QUEUE", "REASON"]);
    for letter in &list.letters {
        let shard = letter.shard.as_deref().unwrap_or("no ticket");
        // Whoever can publish on the broker has chosen some of these.
        let plain = |text: &str| text.escape_debug().to_string();
        table.add_row([plain(&letter.id), plain(shard), plain(&letter.queue), plain(&letter.reason)]);
    }
    let more = if list.more { "\n… and more: `--limit` shows up to 1000" } else { "" };
    let lines: Vec<_> = table.lines().map(|line| line.trim().to_owned()).collect();
    format!("{}{more}", lines.join("\n"))
}

fn said(done: &Requeued) -> String {
    let lines = [
        (done.requeued, "requeued: fresh tickets go out for their shards"),
        (done.not_wanted, "not wanted any more, taken away: their shards are over or in work, or their jobs ended"),
        (done.dropped, "no tickets, taken away"),
        (done.kept, "no tickets, still there: `--drop` takes them away"),
    ];
    let lines: Vec<_> = lines.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if lines.is_empty() { "nothing to settle".into() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use keyrotate_proto::api::DeadLetter;

    use super::*;

    #[test]
    fn reasons_are_shown_and_nothing_reaches_the_terminal_raw() {
        let letter = DeadLetter {
            id: "a1".into(),
            reason: "not a ticket: \u{1b}[2J".into(),
            queue: "keyrotate.tickets.default".into(),
            shard: None,
            bytes: 3,
        };
        let text = shown(&DeadLetterList { letters: vec![letter], more: true });
        assert!(text.contains("a1") && text.contains("no ticket ") && text.contains("not a ticket: \\u{1b}"), "{text}");
        assert!(text.ends_with("up to 1000"));
        assert_eq!(said(&Requeued { requeued: 2, ..Requeued::default() }).lines().count(), 1);
        assert_eq!(said(&Requeued::default()), "nothing to settle");
    }
}
