//! The agents that openapi-generator's client for Rust lists: BASE KEY NAME…
use generated::apis::{Error, agents_api::list_agents, configuration::Configuration};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut given = std::env::args().skip(1);
    let (base_path, key) = (given.next().unwrap(), given.next().unwrap());
    let as_who = |key: String| Configuration {
        base_path: base_path.clone(),
        bearer_access_token: Some(key),
        ..Configuration::default()
    };
    let answer = list_agents(&as_who(key), None, Some(100), None).await.unwrap();
    let mut names: Vec<_> = answer.data.into_iter().map(|it| it.name).collect();
    let mut wanted: Vec<_> = given.collect();
    names.sort();
    wanted.sort();
    assert_eq!(names, wanted);
    let Err(Error::ResponseError(refusal)) = list_agents(&as_who("flowyte_sk_none".into()), None, None, None).await
    else {
        panic!("an unknown key was taken");
    };
    assert_eq!(refusal.status.as_u16(), 401);
    assert!(refusal.content.contains("\"code\":\"invalid_credential\""), "{}", refusal.content);
}
