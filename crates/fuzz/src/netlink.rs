//! Connection tracking's netlink: any bytes from the kernel are refused or understood, and what
//! was understood can be asked of a kernel and understood again.

use lockstep_ctnetlink::{
    Batch, Expectation, Flow, Kind, Messages, create, create_expectation, delete, event_line,
    list_line, update, update_expectation,
};

/// Any bytes as what a socket brought.
pub fn run(bytes: &[u8]) {
    for message in Messages::new(bytes) {
        let Ok(message) = message else { return };
        if let Ok(expectation) = message.expectation() {
            expect(&expectation);
        }
        let kind = message.kind();
        let details = message.details();
        let Ok(flow) = message.flow() else { continue };
        if let Ok(details) = details {
            assert!(!list_line(&flow, &details).is_empty());
            if let Ok(kind @ (Kind::New | Kind::Update | Kind::Destroy)) = kind {
                assert!(!event_line(&kind, &flow, &details, 1).is_empty());
            }
        }
        ask(&flow);
    }
}

/// What is expected goes back as requests.
fn expect(expectation: &Expectation) {
    let mut request = Vec::new();
    create_expectation(&mut request, expectation, 7);
    let mut read = Messages::new(&request);
    let message = read.next().expect("a request").expect("in order");
    let again = message.expectation().expect("our own request can be understood");
    assert_eq!((again.master, again.tuple), (expectation.master, expectation.tuple));
    assert_eq!((again.mask, again.helper), (expectation.mask, expectation.helper));
    assert!(read.next().is_none(), "one request");
    request.clear();
    update_expectation(&mut request, expectation, 8);
    assert_eq!(Messages::new(&request).flatten().count(), 1);
    let mut batch = Batch::new();
    assert!(batch.create_expectation(expectation) && batch.update_expectation(expectation));
    assert_eq!(Messages::new(batch.seal(1)).flatten().count(), 2);
}

/// What was understood goes back as requests.
fn ask(flow: &Flow) {
    let mut request = Vec::new();
    create(&mut request, flow, 7);
    let mut read = Messages::new(&request);
    let message = read.next().expect("a request").expect("in order");
    assert_eq!(message.header().sequence, 7);
    let again = message.flow().expect("our own request can be understood");
    assert_eq!((again.orig, again.zone), (flow.orig, flow.zone));
    assert!(read.next().is_none(), "one request");
    request.clear();
    update(&mut request, flow, 8);
    delete(&mut request, &flow.key(), flow.id, 9);
    assert_eq!(Messages::new(&request).flatten().count(), 2);
    let mut batch = Batch::new();
    assert!(batch.create(flow) && batch.update(flow) && batch.delete(&flow.key(), None));
    assert_eq!(Messages::new(batch.seal(1)).flatten().count(), 3);
}
