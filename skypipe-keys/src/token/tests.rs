use biscuit_auth::builder::{Check, CheckKind, Expression, Op, Predicate, Rule, Unary};
use proptest::prelude::*;

use super::*;

const NOW: WallTime = WallTime(1_700_000_000_000);

fn signer() -> TicketKey {
    TicketKey::of(&KeyPair::from_seed(&[9; 32])).unwrap()
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|t| pattern::parse(t).unwrap()).collect()
}

fn terms(texts: &[&str]) -> Terms {
    let expires = WallTime(NOW.0 + 3_600_000);
    Terms {
        id: "0011".into(),
        acts: ActsFor::Relay,
        patterns: patterns(texts),
        read: true,
        write: true,
        uses: 2,
        expires,
    }
}

fn read(token: &[u8], now: WallTime) -> Result<Terms, Error> {
    signer().open(token)?.terms(now)
}

const READ: Option<Rights> = Some(Rights { read: true, ..Rights::NONE });
const WRITE: Option<Rights> = Some(Rights { write: true, ..Rights::NONE });

#[test]
fn a_token_says_what_it_was_made_for() {
    let key = KeyPair::from_seed(&[3; 32]).public();
    for terms in
        [terms(&[]), terms(&["logs/**", "a b/ü"]), Terms { acts: ActsFor::Key(key), read: false, ..terms(&["x"]) }]
    {
        let token = signer().make(&terms).unwrap();
        let found = read(&token, NOW).unwrap();
        let (mut was, mut is) = (terms.patterns.clone(), found.patterns.clone());
        was.sort_by_key(|p| format!("{p:?}"));
        is.sort_by_key(|p| format!("{p:?}"));
        assert_eq!((was, Terms { patterns: vec![], ..terms }), (is, Terms { patterns: vec![], ..found }));
    }
    assert!(signer().make(&terms(&[])).unwrap().len() < 400, "a ticket fits a line");
}

#[test]
fn another_relays_damaged_or_expired_ones_are_told_apart() {
    let token = signer().make(&terms(&["logs/**"])).unwrap();
    let other = TicketKey::of(&KeyPair::from_seed(&[8; 32])).unwrap();
    let error = other.open(&token).err().unwrap();
    assert!(error.code() == Code::Access && error.text().contains("another relay's"), "{error}");
    assert_eq!(signer().open(b"nonsense").err().unwrap().code(), Code::Ticket);
    assert_eq!(signer().open(&[0; 4000]).err().unwrap().code(), Code::Ticket);
    let error = read(&token, terms(&[]).expires).unwrap_err();
    assert!(error.code() == Code::Access && error.text().contains("expired"), "{error}");
    assert!(read(&token, WallTime(terms(&[]).expires.0 - 1)).is_ok());
}

#[test]
fn narrowing_adds_up_in_any_order_and_never_widens() {
    let token = signer().make(&terms(&["logs/**"])).unwrap();
    let narrow = |token: &[u8], texts: &[&str], rights| attenuate(token, &patterns(texts), rights, None).unwrap();
    let one = narrow(&token, &["logs/web", "jobs"], READ);
    let found = read(&one, NOW).unwrap();
    assert_eq!((found.patterns, found.read, found.write), (patterns(&["logs/web"]), true, false));
    // A second one that asks for more, and one for less.
    assert_eq!(read(&narrow(&one, &["**"], None), NOW).unwrap().patterns, patterns(&["logs/web"]));
    let two = narrow(&narrow(&token, &["logs/*"], None), &["logs/a"], None);
    assert_eq!(read(&two, NOW).unwrap().patterns, patterns(&["logs/a"]));
    for nothing in [narrow(&one, &[], WRITE), narrow(&one, &["jobs"], None), narrow(&one, &[], Some(Rights::NONE))] {
        let error = read(&nothing, NOW).unwrap_err();
        assert!(error.code() == Code::Access && error.text().contains("nothing"), "{error}");
    }
    assert_eq!(
        read(&narrow(&signer().make(&terms(&[])).unwrap(), &["x"], None), NOW).unwrap().patterns,
        patterns(&["x"])
    );
}

#[test]
fn an_earlier_end_counts_and_a_later_one_does_not() {
    let token = signer().make(&terms(&[])).unwrap();
    let until = |at: u64| attenuate(&token, &[], None, Some(WallTime(at))).unwrap();
    assert!(read(&until(NOW.0 + 1000), NOW).is_ok());
    assert!(read(&until(NOW.0), NOW).unwrap_err().text().contains("expired"));
    assert!(read(&until(NOW.0 * 2), terms(&[]).expires).is_err());
}

#[test]
fn what_standard_tools_append_counts_and_what_is_not_understood_is_refused() {
    let token = signer().make(&terms(&["**"])).unwrap();
    let append = |code: &str| {
        let block = BlockBuilder::new().code(code).unwrap();
        UnverifiedBiscuit::from(&token).unwrap().append(block).unwrap().to_vec().unwrap()
    };
    for code in [
        r#"check if pipe("logs/web"); check if right("read")"#,
        r#"check if pipe($p), $p == "logs/web"; check if right($r), $r === "read""#,
        r#"check if pipe($x), {"logs/web"}.contains($x), true"#,
        r#"check if pipe($x), ["logs/web"].contains($x); check if right($r), ["read"].contains($r)"#,
    ] {
        match read(&append(code), NOW) {
            Ok(found) => assert_eq!((found.patterns, found.write), (patterns(&["logs/web"]), false), "{code}"),
            Err(e) => assert!(code.ends_with("true") && e.code() == Code::Ticket, "{code}: {e}"),
        }
    }
    for code in [
        r#"pipe("secret"); right("write")"#,
        r#"ticket("0022")"#,
        r#"uses(1000)"#,
        r#"right("write") <- right("read")"#,
        r#"check if pipe($p), !$p.starts_with("secret")"#,
        r#"check if pipe($p) or right("read")"#,
        r#"check all pipe($p), $p == "a""#,
        r#"reject if pipe("secret")"#,
        r#"check if ticket($t)"#,
    ] {
        assert_eq!(read(&append(code), NOW).unwrap_err().code(), Code::Ticket, "{code}");
    }
}

#[test]
fn too_many_blocks_are_refused() {
    let mut token = signer().make(&terms(&[])).unwrap();
    for _ in 1..BLOCKS_MAX {
        token = attenuate(&token, &[], READ, None).unwrap();
    }
    assert!(read(&token, NOW).is_ok());
    assert!(read(&attenuate(&token, &[], READ, None).unwrap(), NOW).is_err());
}

#[test]
fn what_would_overflow_the_parsers_stack_is_refused_before_it() {
    let token = signer().make(&terms(&[])).unwrap();
    let append = |unary: Unary| {
        let ops = [vec![Op::Value(Term::Bool(true))], vec![Op::Unary(unary); 400]].concat();
        let head = Predicate::new("query".to_owned(), Vec::new());
        let query = Rule::new(head, Vec::new(), vec![Expression { ops }], Vec::new());
        let block = BlockBuilder::new().check(Check { queries: vec![query], kind: CheckKind::One }).unwrap();
        UnverifiedBiscuit::from(&token).unwrap().append(block).unwrap().to_vec().unwrap()
    };
    for hostile in [append(Unary::Parens), append(Unary::Negate)] {
        assert!(hostile.len() < TOKEN_BYTES_MAX, "{}", hostile.len());
        // It takes the signature of a real ticket to get as far as that. Half the stack of a thread: what calls this has taken some of its own.
        let opening = std::thread::Builder::new().stack_size(1 << 20).spawn(move || signer().open(&hostile).err());
        let error = opening.unwrap().join().unwrap().unwrap();
        assert_eq!(error.code(), Code::Ticket);
    }
    // A pipe may have brackets in its name.
    let terms = terms(&["a(([{!/*"]);
    assert_eq!(read(&signer().make(&terms).unwrap(), NOW).unwrap().patterns, terms.patterns);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(signer().open(&bytes).is_err());
        prop_assert!(attenuate(&bytes, &[], READ, None).is_err());
    }

    #[test]
    fn one_wrong_byte_is_found(at in any::<prop::sample::Index>(), change in 1u8..=255) {
        let token = signer().make(&terms(&["logs/**"])).unwrap();
        let mut bytes = attenuate(&token, &patterns(&["logs/web"]), READ, None).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        // What the encoding has in two forms may still be the same token: then it allows the same.
        if let Ok(found) = read(&bytes, NOW) {
            prop_assert_eq!((found.patterns, found.read, found.write, found.uses), (patterns(&["logs/web"]), true, false, 2));
        }
        let _ = attenuate(&bytes, &[], READ, None);
    }
}
