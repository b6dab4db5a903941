//! The page at `/`, as far as it shows without a browser; `interop/browser` has the rest.

use crate::support::{Client, Gateway};

async fn ask(gateway: &Gateway, request: &str) -> crate::support::Answer {
    let mut client = Client::connect(gateway.address).await;
    client.send(format!("{request}\r\nhost: test\r\n\r\n").as_bytes()).await;
    client.answer().await
}

#[tokio::test]
async fn everything_the_page_names_is_served_by_the_gateway() {
    let gateway = Gateway::start("").await;
    let page = ask(&gateway, "GET / HTTP/1.1").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let mut names: Vec<String> = Vec::new();
    let mut sources = page.text();
    while let Some(name) = names_in(&sources).into_iter().find(|name| !names.contains(name)) {
        let asset = ask(&gateway, &format!("GET /playground/{name} HTTP/1.1")).await;
        assert_eq!(asset.status, 200, "{name}");
        assert!(asset.header("content-type").is_some_and(|kind| !kind.starts_with("application")), "{name}");
        sources += &asset.text();
        names.push(name);
    }
    names.sort();
    let expected = [
        "app.js",
        "chat.js",
        "flumen.js",
        "gaps.js",
        "icon.svg",
        "key.js",
        "markdown.js",
        "refusal.js",
        "sse.js",
        "style.css",
        "transports.js",
    ];
    assert_eq!(names, expected);
    assert!(!sources.contains("https://"), "it works offline");
    assert_eq!(ask(&gateway, "GET /playground/none.js HTTP/1.1").await.status, 404);
}

/// The files that a page or a module names.
fn names_in(source: &str) -> Vec<String> {
    let after = ["\"/playground/", "from \"./"].into_iter().flat_map(|mark| source.split(mark).skip(1));
    after.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
}

#[tokio::test]
async fn the_page_may_run_nothing_but_its_own_and_is_fetched_once() {
    let gateway = Gateway::start("").await;
    let page = ask(&gateway, "GET / HTTP/1.1").await;
    let policy = page.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
    }
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let again = format!("GET / HTTP/1.1\r\nif-none-match: {}", page.header("etag").unwrap());
    let again = ask(&gateway, &again).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[tokio::test]
async fn an_operator_can_switch_it_off() {
    let gateway = Gateway::start("[server]\nplayground = false\n").await;
    for path in ["/", "/playground/app.js"] {
        assert_eq!(ask(&gateway, &format!("GET {path} HTTP/1.1")).await.status, 404, "{path}");
    }
}
