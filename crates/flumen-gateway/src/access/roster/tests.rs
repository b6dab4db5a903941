use std::{path::Path, time::Duration};

use super::*;
use crate::config::Priority;

fn config(text: &str) -> Config {
    let secret = ("TOKENS".to_owned(), "0123456789abcdef0123456789abcdef".to_owned());
    let other = ("OTHER".to_owned(), "another-secret-0123456789abcdef-".to_owned());
    Config::parse(text, Path::new("x"), [secret, other].into_iter()).unwrap().config
}

/// A key whose text is `name` and some more.
fn key(name: &str, more: &str) -> String {
    format!("[keys.{name}]\nhash = \"{}\"\ntenant = \"t\"\n{more}\n", KeyHash::of(&text(name)))
}

fn text(name: &str) -> String {
    format!("fl-{name}-0123456789abcdef")
}

async fn who(access: &Access, name: &str) -> Option<Arc<Identity>> {
    access.identify(&text(name)).await.ok()
}

#[tokio::test]
async fn keys_that_stay_keep_what_runs_on_them_and_others_are_revoked() {
    let access = Access::new(&config(&(key("a", "") + &key("b", ""))));
    let (a, b) = (who(&access, "a").await.unwrap(), who(&access, "b").await.unwrap());
    access.apply(&config(&(key("a", "") + &key("c", ""))));
    assert!(!a.revoked().is_cancelled() && b.revoked().is_cancelled());
    assert!(who(&access, "b").await.is_none() && who(&access, "c").await.is_some());
    let again = who(&access, "a").await.unwrap();
    access.apply(&config("[auth]\nopen = true"));
    assert!(a.revoked().is_cancelled() && again.revoked().is_cancelled());
    assert!(!access.is_required());
}

#[tokio::test]
async fn a_key_that_may_less_than_before_is_revoked_and_one_that_may_more_is_not() {
    let narrow = "models = [\"gpt-4*\"]\norigins = [\"https://a\"]";
    for (before, after, tenant, stays) in [
        ("", "", "", true),
        ("", "weight = 3\npriority = \"batch\"\nlimits = { requests_per_second = 1 }", "", true),
        ("", "expires = \"2099-01-01T00:00:00Z\"", "", true),
        ("", "models = [\"gpt-*\"]", "", false),
        ("", "", "[tenants.t]\nmodels = [\"gpt-*\"]\n", false),
        (narrow, "models = [\"gpt-*\"]\norigins = [\"https://a\", \"https://b\"]", "", true),
        (narrow, "models = [\"gpt-4*\"]\norigins = [\"*\"]", "", true),
        (narrow, "models = [\"gpt-4o\"]\norigins = [\"https://a\"]", "", false),
        (narrow, "models = [\"gpt-4*\"]\norigins = [\"https://b\"]", "", false),
        (narrow, "models = [\"gpt-4*\"]", "", false),
        (narrow, "models = [\"gpt-4*\"]\norigins = [\"https://a\"]", "[tenants.t]\nmodels = \"*\"\n", true),
        ("", "expires = \"2020-01-01T00:00:00Z\"", "", false),
    ] {
        let access = Access::new(&config(&key("a", before)));
        let old = who(&access, "a").await.unwrap();
        access.apply(&config(&(tenant.to_owned() + &key("a", after))));
        assert_eq!(!old.revoked().is_cancelled(), stays, "{before:?} -> {after:?} {tenant:?}");
        if let Some(new) = who(&access, "a").await {
            assert!(!new.revoked().is_cancelled());
            assert_eq!(new.priority == Priority::Batch, after.contains("batch"));
        }
    }
}

#[tokio::test]
async fn another_tenant_name_or_digest_is_another_key() {
    let access = Access::new(&config(&key("a", "")));
    for next in [
        key("a", "").replace("tenant = \"t\"", "tenant = \"u\""),
        key("a", "").replace("[keys.a]", "[keys.b]"),
        key("a", "").replace("[keys.a]", "[keys.c]") + &key("b", "").replace("[keys.b]", "[keys.a]"),
    ] {
        access.apply(&config(&key("a", "")));
        let old = who(&access, "a").await.unwrap();
        access.apply(&config(&next));
        assert!(old.revoked().is_cancelled(), "{next}");
        assert!(!who(&access, "a").await.unwrap().revoked().is_cancelled());
    }
}

#[tokio::test]
async fn a_key_that_expires_is_revoked_and_comes_back_only_as_a_new_one() {
    let access = Access::new(&config(&key("a", "expires = \"2098-01-01T00:00:00Z\"")));
    let a = who(&access, "a").await.unwrap();
    let end = a.expires.unwrap();
    assert_eq!(access.expire(end - Duration::from_secs(1)), Some(end));
    assert!(!a.revoked().is_cancelled());
    assert_eq!(access.expire(end), None);
    assert!(a.revoked().is_cancelled() && who(&access, "a").await.is_none());
    access.apply(&config(&key("a", "expires = \"2099-01-01T00:00:00Z\"")));
    assert!(a.revoked().is_cancelled());
    assert!(!who(&access, "a").await.unwrap().revoked().is_cancelled());
}

#[tokio::test]
async fn a_token_hangs_on_its_key_and_its_secret() {
    let with =
        |variable: &str, keys: &str| config(&format!("[auth.tokens]\nsecret_env = \"{variable}\"\n{keys}"));
    let access = Access::new(&with("TOKENS", &key("a", "weight = 4")));
    let wish = super::super::TokenWish {
        tenant: "t".to_owned(),
        lives: Duration::from_mins(1),
        ..Default::default()
    };
    let roster = access.roster();
    let signer = roster.signer.as_ref().unwrap();
    let of_key = signer.sign(&wish, Some(("a", roster.digest("a").unwrap())), None).unwrap().0;
    let of_tenant = signer.sign(&wish, None, None).unwrap().0;
    let (by_key, by_tenant) =
        (access.identify(&of_key).await.unwrap(), access.identify(&of_tenant).await.unwrap());
    assert_eq!((by_key.weight, by_key.key.as_deref(), by_key.proof), (4.0, Some("a"), Proof::Token));
    assert_eq!((by_tenant.weight, by_tenant.key.as_deref()), (1.0, None));
    assert_eq!(by_key.owner(), by_tenant.owner());
    access.apply(&with("TOKENS", ""));
    assert!(by_key.revoked().is_cancelled() && !by_tenant.revoked().is_cancelled());
    assert!(access.identify(&of_key).await.is_err() && access.identify(&of_tenant).await.is_ok());
    access.apply(&with("OTHER", ""));
    assert!(by_tenant.revoked().is_cancelled() && access.identify(&of_tenant).await.is_err());
}

#[test]
fn tenants_that_nobody_named_get_what_the_longest_pattern_says() {
    let text = "[tenants.\"*\"]\nweight = 2\n[tenants.\"team-*\"]\nweight = 3\n[tenants.team-a]\nweight = 4\n"
        .to_owned() + &key("a", "");
    let tenants = Tenants::new(&config(&text));
    for (name, weight, declared) in
        [("team-a", 4.0, true), ("team-b", 3.0, false), ("x", 2.0, false), ("t", 2.0, true)]
    {
        let tenant = tenants.find(name);
        assert_eq!((tenant.settings.weight, tenant.declared, &*tenant.name), (weight, declared, name));
    }
}

#[tokio::test]
async fn wrong_keys_are_nobodys() {
    let access = Access::new(&config(&key("a", "")));
    for wrong in ["", "fl-a-0123456789abcdeg", "fl-a-0123456789abcde", &KeyHash::of(&text("a")).to_string()] {
        let failure = access.identify(wrong).await.unwrap_err();
        assert_eq!((failure.status.as_u16(), failure.code), (401, "invalid_api_key"));
        assert!(wrong.is_empty() || !failure.message.contains(wrong));
    }
}
