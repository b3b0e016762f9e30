//! FTP, active, through translation: its helper rewrites the address in the commands, which shifts the sequence numbers of
//! everything after, and expects the server's connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use lockstep_lab::{Lab, Node};
use lockstep_tests::daemon::number;
use lockstep_tests::wait;
use socket2::{Domain, Socket, Type};

use crate::{Pair, WAYS};

/// An address of the client whose text is shorter than that of its translation.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 9);
const FILE: &[u8] = b"the content of a file";

#[test]
fn a_data_connection_announced_before_the_takeover_comes_after_it() {
    for way in WAYS {
        let mut pair = Pair::new(way, assign_helper);
        serve(pair.lab.server());
        let mut session = Session::open(pair.lab.client());
        session.announce();
        wait::until("B has been told what is expected", || {
            number(&pair.standby.status()["replication"]["external-expectations"]) == 1
        });
        wait_until_shift_is_told(&pair);

        pair.fail_over();

        session.fetch();
    }
}

#[test]
fn a_data_connection_is_announced_and_comes_after_the_takeover() {
    for way in WAYS {
        let mut pair = Pair::new(way, assign_helper);
        serve(pair.lab.server());
        let mut session = Session::open(pair.lab.client());
        session.announce();
        session.fetch();
        wait_until_shift_is_told(&pair);

        pair.fail_over();

        session.announce();
        session.fetch();
    }
}

/// The kernel tells nobody that sequence numbers are shifted now; the routers find out within about a second.
#[track_caller]
fn wait_until_shift_is_told(pair: &Pair) {
    pair.wait_until_told("the shift of sequence numbers", |flow| {
        let shift = flow["sequence-adjustment"][0]["offset-after"].as_u64();
        flow["helper"] == "ftp" && shift.is_some_and(|shift| shift != 0)
    });
}

fn assign_helper(router: &Node) {
    let rules = "table ip helpers { ct helper ftp { type \"ftp\" protocol tcp; l3proto ip; };
        chain pre { type filter hook prerouting priority 0; tcp dport 21 ct helper set \"ftp\"; }; }";
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped());
    let mut nft = router.run(|| nft.spawn()).expect("the router").expect("nft runs");
    nft.stdin.take().expect("its input").write_all(rules.as_bytes()).expect("the rules");
    assert!(nft.wait().expect("nft ends").success());
}

/// Serves sessions until the host goes.
fn serve(server: &Node) {
    let address = SocketAddr::new(Lab::SERVER.into(), 21);
    let listener = server.run(|| TcpListener::bind(address)).expect("the server").expect("port 21");
    let serving = server.spawn("ftp-server", move || {
        while let Ok((stream, _)) = listener.accept() {
            let _ = session(&stream);
        }
    });
    drop(serving.expect("a thread"));
}

/// One session, from the server's side. Data goes out from port 20.
fn session(stream: &TcpStream) -> std::io::Result<()> {
    let mut writer = stream;
    let mut target = None;
    writer.write_all(b"220 ready\r\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let answer: &[u8] = if let Some(numbers) = line.strip_prefix("PORT ") {
            let numbers: Vec<u8> =
                numbers.split(',').filter_map(|number| number.parse().ok()).collect();
            let [a, b, c, d, high, low] = numbers[..] else { return Ok(()) };
            let port = u16::from_be_bytes([high, low]);
            target = Some(SocketAddr::new(IpAddr::from([a, b, c, d]), port));
            b"200 fine\r\n"
        } else if line.starts_with("RETR ") {
            writer.write_all(b"150 coming\r\n")?;
            let data = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            data.set_reuse_address(true)?;
            data.bind(&SocketAddr::new(Lab::SERVER.into(), 20).into())?;
            let target = target.ok_or(std::io::ErrorKind::InvalidInput)?;
            data.connect_timeout(&target.into(), wait::PATIENCE)?;
            TcpStream::from(data).write_all(FILE)?;
            b"226 done\r\n"
        } else {
            b"230 welcome\r\n"
        };
        writer.write_all(answer)?;
    }
    Ok(())
}

/// A session, from the client's side.
struct Session {
    commands: TcpStream,
    answers: BufReader<TcpStream>,
    data: TcpListener,
}

impl Session {
    #[track_caller]
    fn open(client: &Node) -> Self {
        client
            .add_address("eth0", "10.10.0.9/24".parse().expect("an address"))
            .expect("it is added");
        let (commands, data) = client
            .run(|| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                socket.bind(&SocketAddr::new(CLIENT.into(), 0).into()).expect("its address");
                let server = SocketAddr::new(Lab::SERVER.into(), 21);
                socket.connect(&server.into()).expect("a session");
                let data = TcpListener::bind(SocketAddr::new(CLIENT.into(), 0)).expect("a port");
                (TcpStream::from(socket), data)
            })
            .expect("the client");
        commands.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout");
        let answers = BufReader::new(commands.try_clone().expect("a descriptor"));
        let mut session = Self { commands, answers, data };
        session.expect("220");
        session.say("USER somebody", "230");
        session
    }

    /// Tells the server where to connect to.
    #[track_caller]
    fn announce(&mut self) {
        let port = self.data.local_addr().expect("its port").port();
        let [high, low] = port.to_be_bytes();
        let [a, b, c, d] = CLIENT.octets();
        self.say(&format!("PORT {a},{b},{c},{d},{high},{low}"), "200");
    }

    /// Has the server connect and send.
    #[track_caller]
    fn fetch(&mut self) {
        self.say("RETR file", "150");
        self.data.set_nonblocking(true).expect("it is set");
        let (mut stream, from) =
            wait::some("the server connects to the client", || self.data.accept().ok());
        assert_eq!(from.ip(), Lab::SERVER);
        stream.set_nonblocking(false).expect("it is set");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut content = Vec::new();
        stream.read_to_end(&mut content).expect("the file");
        assert_eq!(content, FILE);
        self.expect("226");
    }

    #[track_caller]
    fn say(&mut self, command: &str, answer: &str) {
        self.commands.write_all(format!("{command}\r\n").as_bytes()).expect("a command");
        self.expect(answer);
    }

    #[track_caller]
    fn expect(&mut self, answer: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        assert!(line.starts_with(answer), "{line:?} instead of {answer}");
    }
}
