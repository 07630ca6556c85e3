//! Accounts against the binary: invites, sign-in, ways back in.

use crate::support::{Got, PASSWORD, SHOP, text, worlds};
use serde_json::{Value, json};

fn answer(got: &Got) -> (u16, String) {
    (got.status, got.code())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// An invite stands only while whoever made it could make it; the list and the invite's page say who that is.
///
/// Rows: SE-35.
#[test]
fn an_invite_does_not_outlive_its_maker() {
    for world in worlds(&[]) {
        let server = &world.server;
        let invite = |cookie: &str, email: &str, role: &str| {
            let body = json!({"email": email, "role": role});
            text(&server.as_member(cookie, "POST", "/api/v1/invites", Some(&body)).data()["token"])
        };
        let read = |token: &str| {
            server.send("POST", "/api/v1/auth/invites/read", &[], Some(&json!({"token": token})))
        };
        let accept = |token: &str| {
            let body = json!({"token": token, "name": "New", "password": PASSWORD});
            server.send("POST", "/api/v1/auth/invites/accept", &[], Some(&body))
        };
        let members = server.as_member(&world.owner, "GET", "/api/v1/members", None).data();
        let admin =
            members.as_array().unwrap().iter().find(|it| it["email"] == "admin@alpha.example").unwrap();
        let (path, gone) = (format!("/api/v1/members/{}", text(&admin["id"])), refused(404, "not_found"));

        let first = invite(&world.admin, "one@alpha.example", "admin");
        let said = read(&first).data();
        assert_eq!(said["organization"]["name"], "Alpha");
        assert_eq!((&said["email"], &said["role"]), (&json!("one@alpha.example"), &json!("admin")));
        assert_eq!(said["invitedBy"]["id"], admin["userId"]);
        let listed = || server.as_member(&world.owner, "GET", "/api/v1/invites", None).data();
        assert_eq!(listed()[0]["invitedBy"], said["invitedBy"]);

        // Lowered: gone from the list, from its page, and not to be accepted; raised again, it stays gone.
        let role =
            |role: &str| server.as_member(&world.owner, "PATCH", &path, Some(&json!({"role": role}))).data();
        role("developer");
        assert_eq!(listed(), json!([]));
        assert_eq!((answer(&read(&first)), answer(&accept(&first))), (gone.clone(), gone.clone()));
        role("admin");
        assert_eq!(answer(&accept(&first)), gone);
        // Removed: the same.
        let second = invite(&world.admin, "two@alpha.example", "admin");
        server.as_member(&world.owner, "DELETE", &path, None).data();
        assert_eq!((answer(&read(&second)), answer(&accept(&second))), (gone.clone(), gone));
        let audit =
            server.as_member(&world.owner, "GET", "/api/v1/audit-events?action=member.removed", None).data();
        assert_eq!(audit[0]["details"]["invitesWithdrawn"], 1);
        let third = invite(&world.owner, "three@alpha.example", "viewer");
        assert_eq!(accept(&third).status, 201);
        let nothing: Vec<Value> = Vec::new();
        assert_eq!(listed().as_array().unwrap(), &nothing);
    }
}

/// Whoever loosens a key grants what it then can do, in whichever way; tightening it is for everybody who looks after keys.
///
/// Rows: MI-02.
#[test]
fn a_key_is_loosened_only_by_who_holds_all_of_its_scopes() {
    for world in worlds(&[]) {
        let server = &world.server;
        let days = |n: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * n)).to_string();
        let held_back = |name: &str, scopes: Value| {
            let body = json!({
                "name": name, "scopes": scopes, "expiresAt": days(30), "rateLimitRpm": 60,
                "allowedAddresses": ["10.0.0.0/24", "2001:db8::/32"],
            });
            server.mint(&world.owner, body).0
        };
        let patch = |cookie: &str, id: &str, body: &Value| {
            server.as_member(cookie, "PATCH", &format!("/api/v1/api-keys/{id}"), Some(body))
        };
        let (money, plain) = (
            held_back("money", json!(["agents:read", "billing:write"])),
            held_back("plain", json!(["agents:read"])),
        );
        let looser = [
            json!({"allowedAddresses": []}),
            json!({"allowedAddresses": ["10.0.0.0/23", "2001:db8::/32"]}),
            json!({"allowedAddresses": ["10.0.0.0/25", "10.0.0.128/25", "192.0.2.1"]}),
            json!({"rateLimitRpm": 61}),
            json!({"rateLimitRpm": null}),
            json!({"expiresAt": days(31)}),
            json!({"expiresAt": null}),
            json!({"scopes": ["agents:read", "billing:write", "agents:write"]}),
            // Tighter in one way does not make up for looser in another.
            json!({"rateLimitRpm": 1, "expiresAt": days(40)}),
        ];
        let refuse = refused(403, "scope_not_grantable");
        let before = server.as_member(&world.owner, "GET", &format!("/api/v1/api-keys/{money}"), None).data();
        for body in &looser {
            let got = patch(&world.developer, &money, body);
            assert_eq!(answer(&got), refuse, "{body}");
            assert!(text(&got.json()["detail"]).contains("billing:write"), "{got:?}");
        }
        let after = server.as_member(&world.owner, "GET", &format!("/api/v1/api-keys/{money}"), None).data();
        assert_eq!(before, after, "a refused change changes nothing");
        let rotated = server.as_member(
            &world.developer,
            "POST",
            &format!("/api/v1/api-keys/{money}/rotate"),
            Some(&json!({})),
        );
        assert_eq!(answer(&rotated), refuse);
        // Tightening: the same addresses in other words, fewer of them, fewer calls, an earlier end, fewer scopes, a name.
        let tighter = [
            json!({"allowedAddresses": ["2001:db8::/32", "10.0.0.0/25", "10.0.0.128/25"]}),
            json!({"allowedAddresses": ["10.0.0.7"]}),
            json!({"rateLimitRpm": 59}),
            json!({"expiresAt": days(29)}),
            json!({"name": "renamed"}),
            json!({"scopes": ["billing:write"]}),
        ];
        for body in &tighter {
            assert_eq!(patch(&world.developer, &money, body).status, 200, "{body}");
        }
        // What was taken off does not come back by the hand that took it.
        assert_eq!(answer(&patch(&world.developer, &money, &json!({"rateLimitRpm": 60}))), refuse);
        // Who holds all of its scopes may loosen it: the owner this one, the developer another, or what it is without the rest.
        assert_eq!(patch(&world.owner, &money, &looser[0]).status, 200);
        for body in [&looser[0], &looser[4], &looser[6]] {
            assert_eq!(patch(&world.developer, &plain, body).status, 200, "{body}");
        }
        let less = json!({"scopes": ["agents:read"], "allowedAddresses": []});
        let third = held_back("third", json!(["agents:read", "billing:write"]));
        assert_eq!(patch(&world.developer, &third, &less).status, 200);
    }
}

/// Rows: VI-06.
#[test]
fn visitors_who_proved_nothing_end_when_their_key_asks_for_an_identity() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    for world in worlds(&[]) {
        let server = &world.server;
        let path = format!("/api/v1/agents/{}/publishable-keys/{}", world.agent, world.pk_id);
        let identity = |on: bool| {
            let body = json!({"requireIdentityVerification": on});
            server.as_key(&world.all, "PATCH", &path, Some(&body)).data()
        };
        let open =
            |body: Value| server.as_widget(&world.pk, "POST", "/api/v1/chat/widget/sessions", Some(&body));
        let read =
            |visitor: &str| answer(&server.as_widget(visitor, "GET", "/api/v1/chat/widget/messages", None));
        assert_eq!(read(&world.visitor).0, 200);
        let secret = text(&identity(true)["identitySecret"]);
        assert_eq!(read(&world.visitor), refused(401, "credential_revoked"));
        assert_eq!(answer(&open(json!({}))), refused(403, "identity_required"));
        let claims = json!({"sub": "v", "aud": world.agent, "exp": jiff::Timestamp::now().as_second() + 300});
        let token =
            encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes()));
        let known = text(&open(json!({"identityToken": token.unwrap()})).data()["visitorToken"]);
        assert_eq!(read(&known).0, 200);
        // Off: everybody may come again. On: those who came unproved meanwhile end, those who proved it stay.
        identity(false);
        let anybody = text(&open(json!({})).data()["visitorToken"]);
        assert_eq!((read(&known).0, read(&anybody).0), (200, 200));
        identity(true);
        assert_eq!((read(&known).0, read(&anybody)), (200, refused(401, "credential_revoked")));
        // Nobody without leave to mint publishable keys loosens one.
        let body =
            json!({"requireIdentityVerification": false, "allowedOrigins": [SHOP, "https://evil.example"]});
        assert_eq!(
            answer(&server.as_key(&world.key, "PATCH", &path, Some(&body))),
            refused(403, "insufficient_scope")
        );
    }
}

/// What a sign-in sets besides the session: the device's cookie.
fn device(got: &Got) -> String {
    let mut set =
        got.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str());
    let device =
        set.find(|it| it.starts_with("flowyte_device_")).unwrap_or_else(|| panic!("no device: {got:?}"));
    device.split(';').next().unwrap().to_owned()
}

const WRONG: &str = "not-the-password-of-anybody";

/// Strangers who guess lock nobody out of the devices they use: those are counted apart, and each by itself.
///
/// Rows: SE-29 SE-31. A known device is to a password what a passkey would be in the second row.
#[test]
fn guesses_of_strangers_lock_no_known_device_out() {
    for world in worlds(&[]) {
        let server = &world.server;
        let log_in = |cookie: &str, email: &str, password: &str| {
            let body = json!({"email": email, "password": password});
            server.send("POST", "/api/v1/auth/login", &[&format!("Cookie: {cookie}")], Some(&body))
        };
        let ada = "ada@alpha.example";
        let known = log_in("", ada, PASSWORD);
        let set: Vec<&str> = known
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie")
            .map(|(_, it)| it.as_str())
            .collect();
        assert_eq!(set.len(), 2, "{set:?}");
        assert!(set[1].ends_with("; Max-Age=34560000; Path=/; HttpOnly; SameSite=Strict"), "{set:?}");
        let (laptop, phone) = (device(&known), device(&log_in("", ada, PASSWORD)));
        assert_ne!(laptop, phone);
        let limited = refused(429, "rate_limited");

        // Ten guesses from devices that never signed in, or say that they did: all such devices wait, known address or not.
        let forged =
            format!("{}{}", &laptop[..laptop.len() - 1], if laptop.ends_with('0') { "1" } else { "0" });
        let others = device(&log_in("", "admin@alpha.example", PASSWORD));
        for n in 0..10 {
            let cookie = [&forged, &others, "flowyte_device_00=1.2", ""][n % 4];
            assert_eq!(answer(&log_in(cookie, ada, WRONG)), refused(401, "login_failed"), "{n}");
            assert_eq!(
                answer(&log_in(cookie, "nobody@alpha.example", WRONG)),
                refused(401, "login_failed"),
                "{n}"
            );
        }
        for cookie in [&forged, &others, ""] {
            for email in [ada, "nobody@alpha.example"] {
                let got = log_in(cookie, email, PASSWORD);
                assert_eq!(answer(&got), limited, "{email}");
                assert!(
                    (1..=90).contains(&got.header("retry-after").unwrap().parse::<u32>().unwrap()),
                    "{got:?}"
                );
            }
        }
        for n in 10..100 {
            assert_eq!(answer(&log_in("", ada, WRONG)), limited, "{n}");
        }
        // The laptop goes on; its own failures are its own, and end at ten, where it is a stranger like others.
        assert_eq!(log_in(&laptop, ada, PASSWORD).status, 200);
        assert_eq!(device(&log_in(&laptop, ada, PASSWORD)), laptop, "a device stays the one it is");
        for n in 0..10 {
            assert_eq!(answer(&log_in(&laptop, ada, WRONG)), refused(401, "login_failed"), "{n}");
        }
        assert_eq!(answer(&log_in(&laptop, ada, PASSWORD)), limited);
        // The phone has nothing to do with that; with the password its cookie ends too.
        let session = log_in(&phone, ada, PASSWORD);
        let body = json!({"currentPassword": PASSWORD, "newPassword": "copper-lantern-vivid-19"});
        let changed = server.as_member(&session.cookie(), "POST", "/api/v1/auth/password", Some(&body));
        assert_eq!(answer(&log_in(&phone, ada, "copper-lantern-vivid-19")), limited);
        assert_eq!(log_in(&device(&changed), ada, "copper-lantern-vivid-19").status, 200);
        // A wrong current password is counted with the session, which strangers do not reach.
        let cookie = changed.cookie();
        assert_eq!(
            answer(&server.as_member(&cookie, "POST", "/api/v1/auth/password", Some(&body))),
            refused(401, "login_failed")
        );
    }
}

/// The right password costs a hash and a session as well.
#[test]
fn sign_ins_that_succeed_are_bounded_too() {
    let world = crate::support::World::new(&[]);
    // One more may come every nine seconds, and a slow machine takes that long for some of them.
    let statuses = (0..400).map(|_| world.server.log_in("ada@alpha.example", PASSWORD).status);
    let refused = statuses.inspect(|it| assert!([200, 429].contains(it), "{it}")).position(|it| it == 429);
    assert!(refused.is_some_and(|it| it >= 100), "{refused:?}");
    assert_eq!(world.server.log_in("admin@alpha.example", PASSWORD).status, 200);
}

/// Whoever came first with an address holds nothing: an invite's link makes an account of its own beside theirs, and none of
/// them opens what another has. Known and unknown addresses are answered alike.
///
/// Rows: SE-35.
#[test]
fn nobody_squats_an_address_or_takes_an_account_over_by_inviting_it() {
    for world in worlds(&[("SIGNUPS_PER_ADDRESS", "1000"), ("LOGIN_FAILURES_PER_ACCOUNT", "20")]) {
        let server = &world.server;
        let invite = |cookie: &str, email: &str| {
            let body = json!({"email": email, "role": "viewer"});
            text(&server.as_member(cookie, "POST", "/api/v1/invites", Some(&body)).data()["token"])
        };
        let accept = |token: &str, name: Option<&str>, password: &str| {
            let mut body = json!({"token": token, "password": password});
            if let Some(name) = name {
                body["name"] = name.into();
            }
            server.send("POST", "/api/v1/auth/invites/accept", &[], Some(&body))
        };
        let places = |got: &Got| -> Vec<String> {
            got.data()["organizations"].as_array().unwrap().iter().map(|it| text(&it["name"])).collect()
        };
        // The owner of Beta squats an address: invites it and accepts by the link themself.
        let squat =
            accept(&invite(&world.other_owner, "carol@x.example"), Some("Mallory"), "squat-lantern-vivid-19");
        assert_eq!(squat.status, 201);
        // Carol joins Alpha by its link all the same, with a password of her own, and neither reaches the other's.
        let joined = accept(&invite(&world.owner, "carol@x.example"), Some("Carol"), "carol-kettle-orbit-71");
        assert_eq!(places(&joined), ["Alpha"]);
        assert_eq!(places(&server.log_in("carol@x.example", "carol-kettle-orbit-71")), ["Alpha"]);
        assert_eq!(places(&server.log_in("carol@x.example", "squat-lantern-vivid-19")), ["Beta"]);
        // Inviting an account takes nothing over: Ada of Alpha, invited to Beta by its owner, who has the link.
        let taken = accept(
            &invite(&world.other_owner, "ada@alpha.example"),
            Some("Mallory"),
            "squat-lantern-vivid-20",
        );
        assert_eq!(places(&taken), ["Beta"]);
        assert_eq!(places(&server.log_in("ada@alpha.example", PASSWORD)), ["Alpha"]);
        // Nobody is twice a member of one organization.
        let body = json!({"email": "ada@alpha.example", "role": "viewer"});
        for owner in [&world.owner, &world.other_owner] {
            let again = server.as_member(owner, "POST", "/api/v1/invites", Some(&body));
            assert_eq!(answer(&again), refused(409, "conflict"));
        }
        // With her own password Ada is one person in both, name or none.
        let both = accept(&invite(&world.owner, "bob@beta.example"), Some("Robert"), PASSWORD);
        assert_eq!(places(&both), ["Beta", "Alpha"]);

        // Known or unknown, signing up and accepting say the same: all but the organization's name and the ids.
        let bare =
            |got: Got| (got.status, got.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        let sign_up = |email: &str| {
            let body = json!({"organizationName": "New", "name": "N", "email": email, "password": "novel-kettle-orbit-71"});
            bare(server.send("POST", "/api/v1/auth/signup", &[], Some(&body)))
        };
        assert_eq!(sign_up("ada@alpha.example"), sign_up("never@x.example"));
        assert_eq!(sign_up("ada@alpha.example").0, 201);
        let wrong = |email: &str| {
            let got = accept(&invite(&world.owner, email), None, WRONG);
            let mut document = got.json();
            document["requestId"] = Value::Null;
            (got.status, document)
        };
        assert_eq!(wrong("known-nowhere@x.example"), wrong("carol2@x.example"));
        server.sign_up("Gamma", "dave@x.example");
        assert_eq!(wrong("dave@x.example"), wrong("known-nowhere2@x.example"));

        // A second account's password does not loosen the limit on guesses at the first one's.
        let mallory = server.log_in("ada@alpha.example", "squat-lantern-vivid-20");
        let cookie = device(&mallory);
        let guess = |n: usize| {
            let body =
                json!({"email": "ada@alpha.example", "password": format!("guess-number-{n:03}-of-many")});
            answer(&server.send("POST", "/api/v1/auth/login", &[&format!("Cookie: {cookie}")], Some(&body))).0
        };
        let statuses: Vec<u16> = (0..25)
            .map(|n| {
                // Signing in to one's own account in between gives nothing back.
                server.log_in("ada@alpha.example", "squat-lantern-vivid-20");
                guess(n)
            })
            .collect();
        assert!(statuses.iter().filter(|it| **it == 401).count() <= 20, "{statuses:?}");
        assert_eq!(statuses[24], 429, "{statuses:?}");
    }
}

/// Ways back in: the operator's for everybody, an owner's for a member who is nowhere else.
///
/// Rows: SE-33.
#[test]
fn a_recovery_link_works_once_and_ends_every_session() {
    for world in worlds(&[]) {
        let server = &world.server;
        let members = server.as_member(&world.owner, "GET", "/api/v1/members", None).data();
        let member = |email: &str| {
            text(&members.as_array().unwrap().iter().find(|it| it["email"] == email).unwrap()["id"])
        };
        let make = |cookie: &str, email: &str| {
            server.as_member(
                cookie,
                "POST",
                &format!("/api/v1/members/{}/recovery-link", member(email)),
                None,
            )
        };
        let recover = |token: &str, password: &str| {
            let body = json!({"token": token, "password": password});
            server.send("POST", "/api/v1/auth/recovery", &[], Some(&body))
        };
        let session = |cookie: &str| answer(&server.as_member(cookie, "GET", "/api/v1/auth/session", None));
        let (gone, ended) = (refused(404, "not_found"), refused(401, "credential_revoked"));
        let new = "copper-lantern-vivid-19";

        // Who may not: an admin, whom it would let act as somebody else; and nobody for themselves.
        assert_eq!(answer(&make(&world.admin, "viewer@alpha.example")), refused(403, "scope_not_grantable"));
        assert_eq!(
            answer(&make(&world.developer, "viewer@alpha.example")),
            refused(403, "insufficient_scope")
        );
        assert_eq!(answer(&make(&world.owner, "ada@alpha.example")), refused(409, "conflict"));
        // An owner, for a member: shown once, the newest counts, a weak password uses nothing up.
        let first = text(&make(&world.owner, "viewer@alpha.example").data()["token"]);
        let link = make(&world.owner, "viewer@alpha.example").data();
        let second = text(&link["token"]);
        assert_eq!(link["link"], format!("{}/recover#token={second}", server.url()));
        assert_eq!(answer(&recover(&first, new)), gone);
        assert_eq!(answer(&recover(&second, "passwordpassword")), refused(400, "validation_error"));
        let back = recover(&second, new);
        assert_eq!((back.status, &back.data()["user"]["email"]), (200, &json!("viewer@alpha.example")));
        assert_eq!((session(&world.viewer), session(&back.cookie()).0), (ended.clone(), 200));
        assert_eq!(answer(&recover(&second, "copper-lantern-vivid-20")), gone);
        assert_eq!(server.log_in("viewer@alpha.example", new).status, 200);
        assert_eq!(answer(&server.log_in("viewer@alpha.example", PASSWORD)), refused(401, "login_failed"));

        // Somebody who acts in another organization too is nobody's to take over, not even by a link from before.
        let early = text(&make(&world.owner, "developer@alpha.example").data()["token"]);
        let body = json!({"email": "developer@alpha.example", "role": "viewer"});
        let invited = server.as_member(&world.other_owner, "POST", "/api/v1/invites", Some(&body)).data();
        let body = json!({"token": invited["token"], "password": PASSWORD});
        assert_eq!(server.send("POST", "/api/v1/auth/invites/accept", &[], Some(&body)).status, 201);
        assert_eq!(answer(&recover(&early, new)), gone);
        let refusal = make(&world.owner, "developer@alpha.example");
        assert_eq!(answer(&refusal), refused(409, "conflict"));
        assert!(text(&refusal.json()["detail"]).contains("another organization"), "{refusal:?}");
        // Nor does a link outlive its maker's ownership.
        let grant = |role: &str| {
            let path = format!("/api/v1/members/{}", member("admin@alpha.example"));
            server.as_member(&world.owner, "PATCH", &path, Some(&json!({"role": role}))).data()
        };
        grant("owner");
        let theirs = text(&make(&world.admin, "viewer@alpha.example").data()["token"]);
        grant("admin");
        assert_eq!(answer(&recover(&theirs, "copper-lantern-vivid-21")), gone);

        // The operator's, beside the running server, for anybody: the locked-out owner too.
        let (done, said) = server.run(&["users", "recovery-link", "Ada@alpha.example"]);
        assert!(done && said.contains("30 minutes"), "{said}");
        let token = said.split("#token=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        for _ in 0..11 {
            server.log_in("ada@alpha.example", WRONG);
        }
        assert_eq!(answer(&server.log_in("ada@alpha.example", PASSWORD)), refused(429, "rate_limited"));
        let back = recover(&token, new);
        assert_eq!((back.status, session(&world.owner)), (200, ended));
        assert_eq!(answer(&recover(&token, new)), gone);
        let (done, said) = server.run(&["users", "recovery-link", "nobody@alpha.example"]);
        assert!(!done && said.contains("no account signs in with nobody@alpha.example"), "{said}");

        // All of it stands in the audit log, which is whole; the tokens stand nowhere.
        let audit = |path: &str| {
            server.as_member(&back.cookie(), "GET", &format!("/api/v1/audit-events{path}"), None)
        };
        let all = audit("?limit=100").body;
        for action in ["member.recovery_link_made", "user.recovery_link_made", "user.password_recovered"] {
            assert!(all.contains(action), "{action}: {all}");
        }
        assert_eq!(audit("/verify").data()["intact"], true);
        assert!(!all.contains(&token) && !server.output.lock().unwrap().contains(&token));
    }
}

/// Each organization begins with a free allowance, so one person founds so many and leaves none behind uncounted.
#[test]
fn a_person_founds_so_many_organizations() {
    for world in worlds(&[("ORGANIZATIONS_PER_PERSON", "3"), ("SIGNUPS_PER_ADDRESS", "10")]) {
        let server = &world.server;
        let found = |cookie: &str| {
            answer(&server.as_member(cookie, "POST", "/api/v1/organizations", Some(&json!({"name": "More"}))))
        };
        assert_eq!([found(&world.owner).0, found(&world.owner).0], [201, 201]);
        assert_eq!(found(&world.owner), refused(409, "conflict"));
        // Others found their own; being invited into one counts for nobody.
        assert_eq!([found(&world.admin).0, found(&world.admin).0, found(&world.admin).0], [201, 201, 201]);
        assert_eq!(found(&world.admin), refused(409, "conflict"));
        // Signing up again with the same account is founding another one; with ever new ones it is limited by address.
        let sign_up = |email: &str| {
            let body = json!({"organizationName": "More", "name": "A", "email": email, "password": PASSWORD});
            answer(&server.send("POST", "/api/v1/auth/signup", &[], Some(&body)))
        };
        assert_eq!(sign_up("ada@alpha.example"), refused(409, "conflict"));
        assert_eq!(sign_up("zoe@x.example").0, 201);
        assert_eq!(sign_up("yan@x.example"), refused(429, "rate_limited"));
        // Nor is there a way round by invites to oneself, each of which makes another person who has founded nothing yet.
        let invited = server.join(&world.owner, "ada-2@x.example", "viewer");
        assert_eq!(found(&invited), refused(429, "rate_limited"));
    }
}
