//! Accounts against the binary: invites, sign-in, ways back in.

use crate::support::{Got, PASSWORD, text, worlds};
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
