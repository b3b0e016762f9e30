//! What is written is read again, whatever happened to the file meanwhile.

use super::*;

fn transition(number: u64, is_over: bool) -> Transition {
    Transition {
        number,
        at: "2026-03-01T12:00:00.000Z".to_owned(),
        group: "gateway".to_owned(),
        from: "backup".to_owned(),
        to: "master".to_owned(),
        reason: format!("reason {number}"),
        view: vec!["inside: 10.1.1.3 was heard 3.61 s before".to_owned()],
        is_over,
        steps: Vec::new(),
    }
}

fn numbers(journal: &Journal) -> Vec<(u64, bool)> {
    journal.earlier().iter().map(|one| (one.number, one.is_over)).collect()
}

#[test]
fn a_transition_is_written_when_it_begins_and_when_it_is_over() {
    let mut written = Written::up_to(0);
    let first = written.take(&[transition(1, false)]);
    assert_eq!(first.lines().count(), 1);
    assert_eq!(written.take(&[transition(1, false)]), "");
    let both = [transition(1, true), transition(2, false)];
    assert_eq!(written.take(&both).lines().count(), 2);
    assert_eq!(written.take(&both), "");
    // A later one of another group may be over first, and is not written for ever.
    let crossed = [transition(1, true), transition(2, false), transition(3, true)];
    assert_eq!(written.take(&crossed).lines().count(), 1);
    assert_eq!(written.take(&crossed), "");
    let ended = [transition(2, true), transition(3, true)];
    let line = written.take(&ended);
    assert!(line.contains("reason 2") && line.lines().count() == 1, "{line}");
    assert_eq!(written.take(&ended), "");
    assert_eq!((written.over, written.begun, written.ended.len()), (3, 3, 0));
}

#[test]
fn the_next_run_has_what_the_last_one_wrote_and_a_cut_line_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("state");
    let first = Journal::open(&directory);
    assert_eq!((first.last_number(), first.earlier().len()), (0, 0));
    let mut files = first.files.unwrap();
    let mut written = Written::up_to(0);
    files.add(&written.take(&[transition(1, false)])).unwrap();
    files.add(&written.take(&[transition(1, true), transition(2, false)])).unwrap();
    files.add("{\"number\":3,\"at\"").unwrap();
    drop(files);

    let second = Journal::open(&directory);
    assert_eq!(numbers(&second), [(1, true), (2, false)]);
    assert_eq!(second.last_number(), 2);
    let mut files = second.files.unwrap();
    files.add(&Written::up_to(2).take(&[transition(3, true)])).unwrap();
    drop(files);
    assert_eq!(numbers(&Journal::open(&directory)), [(1, true), (2, false), (3, true)]);
}

#[test]
fn two_daemons_do_not_write_one_journal() {
    let directory = tempfile::tempdir().unwrap();
    let first = Journal::open(directory.path());
    let second = Journal::open(directory.path());
    assert!(first.files.is_ok());
    let why = format!("{:#}", second.files.unwrap_err());
    assert!(why.starts_with("another daemon writes "), "{why}");
}

#[test]
fn the_files_stay_within_their_size_and_the_newest_transitions_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = Journal::open(directory.path()).files.unwrap();
    let mut written = Written::up_to(0);
    let line_length = written.take(&[transition(1, true)]).len() as u64;
    let count = 3 * SIZE_LIMIT / line_length;
    for number in 2..=count {
        files.add(&written.take(&[transition(number, true)])).unwrap();
    }
    for path in [files.path.clone(), files.old()] {
        assert!(fs::metadata(path).unwrap().len() < SIZE_LIMIT + 2 * line_length);
    }
    drop(files);
    let journal = Journal::open(directory.path());
    let shown = numbers(&journal);
    assert_eq!(shown.len(), EARLIER_LIMIT);
    assert_eq!((shown.last(), journal.last_number()), (Some(&(count, true)), count));
}

#[test]
fn a_directory_that_cannot_be_made_costs_the_record_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let journal = Journal::open(&file.join("state"));
    assert_eq!((journal.last_number(), journal.earlier().len()), (0, 0));
    assert!(journal.files.is_err());
}
