//! Whatever a file holds, reading it and showing what is wrong with it ends in order.

use lockstep_config::{
    Diagnostic, Severity, Surroundings, parse, referenced_files, render, routing_tables,
};
use proptest::prelude::*;

/// Complete files, as something to break.
const FILES: &[&str] = &[
    include_str!("../../../examples/cloudstack/lockstep.toml"),
    include_str!("../../../examples/plain-pair/lockstep.toml"),
    include_str!("../../../examples/tracking/lockstep.toml"),
    include_str!("diagnostics/addresses.toml"),
    include_str!("diagnostics/engine.toml"),
    include_str!("diagnostics/signatures.toml"),
    include_str!("diagnostics/tracking.toml"),
    include_str!("diagnostics/unicast.toml"),
    include_str!("diagnostics/groups.toml"),
    include_str!("diagnostics/routes.toml"),
    include_str!("diagnostics/next_hops.toml"),
    include_str!("diagnostics/rules.toml"),
    include_str!("diagnostics/loose_ends.toml"),
    include_str!("diagnostics/wrong_types.toml"),
];

/// Reads `text` and shows all that is said of it. Returns that.
fn read(text: &str) -> Vec<Diagnostic> {
    let _ = referenced_files(text);
    let (diagnostics, refused) = match parse("a.toml", text, &Surroundings::default()) {
        Ok(checked) => (checked.warnings, false),
        Err(diagnostics) => (diagnostics, true),
    };
    assert_eq!(
        diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error),
        refused
    );
    for diagnostic in &diagnostics {
        assert!(!diagnostic.message.is_empty());
        assert!(!render(diagnostic, text, false).is_empty());
    }
    diagnostics
}

#[test]
fn a_password_is_not_shown_in_a_value_that_took_its_line_in() {
    for text in [
        "[vrrp.a]\n[vrrp.a.authentication]\ntype = \"\"\"hmac\"\n\
         key = \"SECRET\"\nother-keys = [{ key-id = 0, key = \"\"\"SECRET\"\"\" }]\n",
        "[vrrp.a]\nauthentication = { type = \"\"\"pass\", password = \"SECRET\" }\n\"\"\" }\n",
    ] {
        let shown: Vec<String> = read(text).iter().map(|told| render(told, text, false)).collect();
        let shown = shown.join("\n");
        assert!(shown.contains("unknown authentication type"), "{shown}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}

proptest! {
    // Each case reads a text once and draws all that is said of it, which for a broken file is much.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn arbitrary_text_is_read_to_the_end(text in any::<String>()) {
        read(&text);
    }

    #[test]
    fn toml_like_text_is_read_to_the_end(text in "([\\[\\]{}=,.\"'#\\n a-cé0-9]|vrrp|group|address|password|\"\"\"|'''|\r\n){0,60}") {
        read(&text);
    }

    #[test]
    fn a_file_with_something_else_in_its_middle_is_read_to_the_end(
        file in prop::sample::select(FILES),
        cut in any::<prop::sample::Index>(),
        length in 0_usize..40,
        insert in "[\\[\\]{}=,.\"'#\\n a-z0-9é\u{0}]{0,10}",
    ) {
        let start = file.floor_char_boundary(cut.index(file.len()));
        let end = file.ceil_char_boundary((start + length).min(file.len()));
        read(&format!("{}{insert}{}", &file[..start], &file[end..]));
    }

    #[test]
    fn any_span_is_drawn(
        text in "(.|\\n|\r|é|日|\u{1f600}|e\u{301}|\t|\u{202e}){0,30}",
        span in (0_usize..120, 0_usize..120),
        context in prop::collection::vec((0_usize..120, 0_usize..120), 0..3),
        color in any::<bool>(),
    ) {
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            file: "a.toml".to_owned(),
            line: 1,
            column: 1,
            span: span.0..span.1,
            message: "odd".to_owned(),
            label: Some("here".to_owned()),
            help: None,
            context: context.into_iter().map(|(start, end)| (start..end, "there".to_owned())).collect(),
        };
        prop_assert!(render(&diagnostic, &text, color).contains("odd"));
    }

    #[test]
    fn the_place_that_is_drawn_is_the_place_that_is_told(
        file in prop::sample::select(FILES),
        cut in any::<prop::sample::Index>(),
        insert in "[a-zé日]{1,8}",
    ) {
        let at = file.floor_char_boundary(cut.index(file.len()));
        let text = format!("{}{insert}{}", &file[..at], &file[at..]);
        for diagnostic in read(&text) {
            let place = format!("a.toml:{}:{}\n", diagnostic.line, diagnostic.column);
            let drawn = render(&diagnostic, &text, false);
            prop_assert!(drawn.contains(&place), "{place} is not in\n{drawn}");
        }
    }

    #[test]
    fn any_rt_tables_is_read_to_the_end(text in "([0-9x a-f#\\n\t]|\r\n|é){0,60}") {
        let (_, warnings) = routing_tables("rt_tables", &text);
        for warning in &warnings {
            prop_assert_eq!(warning.severity, Severity::Warning);
            prop_assert!(!render(warning, &text, false).is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_key_is_never_shown_however_the_file_is_broken(
        cut in any::<prop::sample::Index>(),
        length in 0_usize..6,
        insert in "[\\[\\]{}=,.\"'#\\n ]{0,3}",
    ) {
        let file = "[vrrp.a]\nversion = 4\n[vrrp.a.authentication]\ntype = \"hmac\"\nkey-id = 0\nkey = \"SECRETSECRET\"\n\
                    other-keys = [{ key-id = 0, key = \"SECRETSECRET\" }]\n";
        let start = cut.index(file.len());
        let end = (start + length).min(file.len());
        let text = format!("{}{insert}{}", &file[..start], &file[end..]);
        // As above; a broken header makes the rest of the table belong to nobody knows whom.
        prop_assume!(text.matches("key = \"SECRETSECRET\"").count() == 2);
        prop_assume!(text.contains("[vrrp.a.authentication]\n"));
        for diagnostic in read(&text) {
            prop_assert!(!render(&diagnostic, &text, false).contains("SECRET"));
        }
    }

    #[test]
    fn a_password_is_never_shown_however_the_file_is_broken(
        cut in any::<prop::sample::Index>(),
        length in 0_usize..6,
        insert in "[\\[\\]{}=,.\"'#\\n ]{0,3}",
    ) {
        let file = "[vrrp.a]\nversion = 3\nauthentication = { type = \"pass\", password = \"SECRETSECRET\" }\nvrid = 0\n";
        let start = cut.index(file.len());
        let end = (start + length).min(file.len());
        // Breaking the key itself or the quotes around the value would make it no password.
        let text = format!("{}{insert}{}", &file[..start], &file[end..]);
        prop_assume!(text.contains("password = \"SECRETSECRET"));
        for diagnostic in read(&text) {
            prop_assert!(!render(&diagnostic, &text, false).contains("SECRET"));
        }
    }
}
