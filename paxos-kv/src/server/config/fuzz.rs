//! A fuzz target for the settings that are texts with a grammar: URLs, lists of them, and the map
//! of a cluster. `docs/PROOF.md` has the commands.

use super::{cluster::ClusterMap, url::Url};

/// Texts of the alphabet that such settings are made of.
fn text_of(bytes: &[u8]) -> String {
    const PARTS: [&str; 20] = [
        "http://",
        "https://",
        "quic://",
        "a",
        "b",
        "=",
        ",",
        ":",
        "/",
        "[::1]",
        "127.0.0.1",
        "@",
        "2379",
        "2380",
        "99999",
        "?",
        " ",
        "%",
        "a=http://h:1",
        "é",
    ];
    bytes.iter().map(|byte| PARTS[*byte as usize % PARTS.len()]).collect()
}

/// What is accepted reads the same when it is written out.
fn check(text: &str) {
    if let Ok(url) = text.parse::<Url>() {
        assert_eq!(url.to_string().parse(), Ok(url));
    }
    if let Ok(urls) = Url::parse_list(text) {
        let again = urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",");
        assert_eq!(Url::parse_list(&again), Ok(urls));
    }
    if let Ok(map) = ClusterMap::parse(text, "token") {
        let member =
            |member: &super::cluster::Member| format!("{}={}", member.name, member.peer_url);
        let again = map.members().iter().map(member).collect::<Vec<_>>().join(",");
        let again = ClusterMap::parse(&again, "token").expect("written by ourselves");
        assert_eq!((again.id(), again.members()), (map.id(), map.members()));
    }
}

#[test]
fn settings() {
    bolero::check!().for_each(|bytes: &[u8]| {
        check(&String::from_utf8_lossy(bytes));
        check(&text_of(bytes));
    });
}
