//! The heads of audit chains that the server keeps beside its peppers: what was done to the database while it was down shows.

use crate::isolation::execute;
use crate::support::{PASSWORD, World, text};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A world on SQLite, and one on PostgreSQL.
fn each(test: impl Fn(&mut Kept)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = runtime.block_on(crate::postgres::empty_database());
    for url in [None, Some(url)] {
        let settings = [("LOG_LEVEL", "info"), ("DATABASE", url.as_deref().unwrap_or_default())];
        let world = World::new(&settings[..if url.is_some() { 2 } else { 1 }]);
        test(&mut Kept { world, url });
    }
}

struct Kept {
    world: World,
    url: Option<String>,
}

impl Kept {
    fn file(&self) -> PathBuf {
        self.world.server.folder.join("audit-heads")
    }

    /// What the first organization is told of its audit log.
    fn verify(&self, query: &str) -> Value {
        let path = format!("/api/v1/audit-events/verify{query}");
        self.world.server.as_member(&self.world.owner, "GET", &path, None).data()
    }

    fn mint(&self) {
        self.world.server.mint(&self.world.owner, json!({"name": "x", "scopes": ["agents:read"]}));
    }

    /// Stops the server in good order, does something, and starts it again.
    fn while_down(&mut self, act: impl FnOnce(&Self)) {
        assert!(self.world.server.terminate().success());
        act(self);
        self.world.server.kill_and_restart();
    }

    /// A statement on the events of the first organization.
    fn edit(&self, change: &str, which: &str) {
        let hex = self.world.organization.strip_prefix("org_").unwrap();
        let organization = match self.url {
            Some(_) => format!("decode('{hex}', 'hex')"),
            None => format!("X'{hex}'"),
        };
        let sql = format!("{change} WHERE organization_id = {organization} AND {which}");
        execute(self.url.as_deref(), &self.world.server.folder, &sql);
    }

    /// The log has this, or does as soon as what was printed has been read.
    fn logged(&self, text: &str) {
        let begun = Instant::now();
        while !self.world.server.output.lock().unwrap().contains(text) {
            let log = self.world.server.output.lock().unwrap().clone();
            assert!(begun.elapsed() < Duration::from_secs(60), "{text} is not in the log:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_tail_that_was_cut_while_the_server_was_down_shows() {
    each(|kept| {
        let before = kept.verify("");
        assert_eq!((&before["intact"], &before["walkedFrom"]), (&json!(true), &json!(1)));
        let events = before["events"].as_i64().unwrap();
        kept.while_down(|kept| {
            let mode = fs::metadata(kept.file()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            kept.logged("the heads of audit chains were kept");
            let (whole, said) = kept.world.server.run(&["audit", "verify"]);
            let digest = said.lines().find_map(|it| it.split_once("digest of the kept heads").map(|it| it.1));
            let digest = digest.and_then(|it| it.rsplit(' ').next()).unwrap().to_owned();
            assert!(whole, "{said}");
            kept.logged(&digest);
            kept.edit("DELETE FROM audit_events", &format!("sequence > {}", events - 3));
            let (whole, said) = kept.world.server.run(&["audit", "verify"]);
            let broken = format!("BROKEN at {}; it does not have its kept head", events - 2);
            assert!(!whole && said.contains(&broken), "{said}");
        });
        let seen = |kept: &Kept, query: &str| {
            let it = kept.verify(query);
            (it["intact"].clone(), it["brokenAt"].clone(), it["keptHead"].clone())
        };
        let cut = (json!(false), json!(events - 2), json!("differs"));
        // What comes after does not hide it, and neither does another start.
        for _ in 0..5 {
            kept.mint();
        }
        assert_eq!(seen(kept, ""), cut);
        kept.logged("the audit chain is not what it was");
        kept.while_down(|_| ());
        assert_eq!((seen(kept, ""), seen(kept, "?full=true")), (cut.clone(), cut));
        let other = &kept.world.other_owner;
        let other = kept.world.server.as_member(other, "GET", "/api/v1/audit-events/verify", None).data();
        assert_eq!(other["intact"], true);

        // Whoever knows why takes it as it is, which the chain tells.
        kept.while_down(|kept| {
            let (done, said) = kept.world.server.run(&["audit", "accept"]);
            let gone = format!("the events {} to {events} of its audit log are gone", events - 2);
            assert!(done && said.contains(&gone) && said.contains("audit-heads-before-"), "{said}");
            assert!(!kept.file().exists());
        });
        kept.logged("no heads of audit chains were kept");
        let after = kept.verify("?full=true");
        assert_eq!((&after["intact"], &after["brokenAt"]), (&json!(true), &json!(null)), "{after}");
        let path = "/api/v1/audit-events?action=audit.rewound";
        let told = kept.world.server.as_member(&kept.world.owner, "GET", path, None).data();
        let details = &told[0]["details"];
        assert_eq!((&details["from"], &details["to"]), (&json!(events - 2), &json!(events)), "{told}");
        assert_eq!(details["hash"], before["head"]);
    });
}

#[test]
fn an_event_that_was_changed_shows_before_and_after_the_kept_head() {
    each(|kept| {
        kept.while_down(|_| ());
        let head = kept.verify("")["events"].as_i64().unwrap();
        kept.mint();
        kept.mint();
        // Nothing of these is in the file yet.
        kept.world.server.kill();
        kept.edit("UPDATE audit_events SET actor_name = 'x'", &format!("sequence = {}", head + 2));
        kept.world.server.kill_and_restart();
        let found = kept.verify("");
        assert_eq!((&found["intact"], &found["brokenAt"]), (&json!(false), &json!(head + 2)), "{found}");
        kept.logged("the heads of audit chains were kept");
        kept.world.server.kill();
        kept.edit("DELETE FROM audit_events", &format!("sequence > {}", head + 1));
        kept.world.server.kill_and_restart();
        // The first start after that noted the end as it was.
        let found = kept.verify("");
        assert_eq!(
            (&found["brokenAt"], &found["keptHead"]),
            (&json!(head + 2), &json!("differs")),
            "{found}"
        );
    });
}

#[test]
fn a_verification_walks_what_came_since_the_last_one() {
    each(|kept| {
        let first = kept.verify("");
        let events = first["events"].as_i64().unwrap();
        assert_eq!((&first["walkedFrom"], &first["keptHead"]), (&json!(1), &json!("holds")), "{first}");
        assert_eq!(kept.verify("")["walkedFrom"], events + 1);
        kept.mint();
        kept.while_down(|_| ());
        let found = kept.verify("?full=false");
        assert_eq!((&found["walkedFrom"], &found["events"]), (&json!(events + 1), &json!(events + 1)));
        assert_eq!((&found["intact"], &found["keptHead"]), (&json!(true), &json!("holds")));
        // What lies before is seen by a whole walk alone, and then by each.
        kept.while_down(|kept| kept.edit("UPDATE audit_events SET action = 'x'", "sequence = 2"));
        assert_eq!(kept.verify("")["intact"], true);
        for query in ["?full=true", ""] {
            let found = kept.verify(query);
            assert_eq!((&found["walkedFrom"], &found["brokenAt"]), (&json!(1), &json!(2)), "{query} {found}");
        }
        let path = "/api/v1/audit-events/verify?full=yes";
        let refused = kept.world.server.as_member(&kept.world.owner, "GET", path, None);
        assert_eq!((refused.status, refused.code().as_str()), (400, "validation_error"));
    });
}

#[test]
fn heads_that_somebody_forged_are_refused_and_told_of() {
    each(|kept| {
        let events = kept.verify("")["events"].as_i64().unwrap();
        let mut right = String::new();
        kept.while_down(|kept| {
            right = fs::read_to_string(kept.file()).unwrap();
            let line = format!("\"sequence\":{events},");
            assert!(right.contains(&line), "{right}");
            let forged = right.replace(&line, &format!("\"sequence\":{},", events - 1));
            fs::write(kept.file(), forged).unwrap();
            kept.edit("DELETE FROM audit_events", &format!("sequence = {events}"));
            let (whole, said) = kept.world.server.run(&["audit", "verify"]);
            assert!(!whole && said.contains("are refused"), "{said}");
        });
        kept.logged("the kept heads of audit chains are refused");
        let found = kept.verify("");
        assert_eq!((&found["intact"], &found["keptHead"]), (&json!(false), &json!("unsigned")), "{found}");
        kept.mint();
        // The right file says what the forged one was to hide, and a copy of it kept elsewhere does as well.
        let copy = kept.world.server.folder.join("copy");
        fs::write(&copy, &right).unwrap();
        let (whole, said) = kept.world.server.run(&["audit", "verify", "--against", copy.to_str().unwrap()]);
        assert!(!whole && said.contains(&format!("event {events} was changed")), "{said}");
        kept.while_down(|kept| fs::write(kept.file(), &right).unwrap());
        let found = kept.verify("");
        assert_eq!((&found["brokenAt"], &found["keptHead"]), (&json!(events), &json!("differs")), "{found}");
    });
}

/// A restore goes back, and says so: in what it prints, in the chain, and by keeping the heads under another name.
#[test]
fn a_restore_puts_the_heads_aside_and_tells_the_chain() {
    let world = World::new(&[("LOG_LEVEL", "info")]);
    let mut kept = Kept { world, url: None };
    kept.while_down(|_| ());
    let at_backup = kept.verify("");
    let backup = kept.world.server.folder.join("../backup");
    let backup = backup.to_str().unwrap();
    let (done, said) = kept.world.server.run(&["backup", backup]);
    assert!(done, "{said}");
    assert_eq!(
        fs::read(kept.file()).unwrap(),
        fs::read(format!("{backup}/audit-heads")).unwrap(),
        "the backup has the heads of then"
    );
    kept.mint();
    kept.mint();
    let before = kept.verify("");
    let (first, last) = (at_backup["events"].as_i64().unwrap() + 1, before["events"].as_i64().unwrap());
    kept.while_down(|kept| {
        let (done, said) = kept.world.server.run(&["restore", backup]);
        let gone =
            format!("{}: the events {first} to {last} of its audit log are gone", kept.world.organization);
        assert!(done && said.contains(&gone) && said.contains("audit-heads-before-"), "{said}");
        assert!(!said.contains(&kept.world.other_organization), "{said}");
    });
    kept.world.owner = kept.world.server.log_in("ada@alpha.example", PASSWORD).cookie();
    let found = kept.verify("?full=true");
    assert_eq!((&found["intact"], &found["keptHead"]), (&json!(true), &json!("holds")), "{found}");
    let path = "/api/v1/audit-events?action=audit.rewound";
    let told = kept.world.server.as_member(&kept.world.owner, "GET", path, None).data();
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    assert_eq!(text(&told[0]["details"]["why"]), "a backup from before was restored");
    assert_eq!(told[0]["details"]["hash"], before["head"]);
}
