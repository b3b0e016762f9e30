//! Real commands, run as hooks and checks are.

use super::*;

fn shell(script: &str, timeout: Duration) -> Command {
    Command {
        argv: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        environment: vec![("LOCKSTEP_STATE", "master".to_owned())],
        user: None,
        timeout,
        insecure: false,
        lifetime: Lifetime::Own(None),
    }
}

fn user(user: &str, group: Option<&str>) -> RunAs {
    RunAs { user: user.to_owned(), group: group.map(str::to_owned) }
}

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn exit_status_and_last_lines_are_kept() {
    let ended = run(shell("echo one; echo two >&2; exit 3", LONG)).await;
    assert_eq!(ended.how, How::Exit(3));
    assert_eq!(ended.output, ["one", "two"]);
    assert_eq!(ended.to_string(), "exit status 3: two");
}

#[tokio::test]
async fn a_command_sees_its_environment_and_the_root_directory() {
    let ended = run(shell("echo $LOCKSTEP_STATE; pwd; cat; echo ${NOTIFY_SOCKET-unset}", LONG));
    assert_eq!(ended.await.output, ["master", "/", "unset"]);
}

#[tokio::test]
async fn a_missing_program_is_a_clear_result() {
    let argv = vec!["/nonexistent/hook".to_owned()];
    let ended = run(Command { argv, ..shell("", LONG) }).await;
    assert_eq!(ended.to_string(), "not started: there is no /nonexistent/hook");
}

#[tokio::test]
async fn a_command_of_another_user_has_that_users_identity_and_can_tell_its_output() {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: this needs to be root");
        return;
    }
    let mut command = shell("id -un; id -gn; echo $USER; cat /proc/self/oom_score", LONG);
    command.user = Some(user("nobody", None));
    let ended = run(command).await;
    assert_eq!(ended.how, How::Exit(0), "{ended}");
    assert_eq!(ended.output[..3], ["nobody", "nogroup", "nobody"]);
}

#[tokio::test]
async fn a_user_that_is_not_there_is_a_clear_result() {
    let mut command = shell("true", LONG);
    command.user = Some(user("no-such-user", None));
    assert_eq!(run(command).await.to_string(), "not started: there is no user no-such-user");
}

#[tokio::test]
async fn a_signal_from_elsewhere_is_named() {
    assert_eq!(run(shell("kill -USR1 $$", LONG)).await.to_string(), "ended by SIGUSR1");
}

#[tokio::test]
async fn the_time_out_ends_the_whole_process_group() {
    let script = "sleep 1000 & echo $!; echo $$; wait";
    let ended = run(shell(script, Duration::from_secs(2))).await;
    assert_eq!(ended.how, How::TimedOut(Duration::from_secs(2)));
    for pid in &ended.output {
        assert_gone(pid).await;
    }
    assert_eq!(ended.output.len(), 2);
}

#[tokio::test]
async fn a_group_that_ignores_sigterm_is_killed() {
    let script = "trap '' TERM; (while :; do sleep 1000; done) & echo $!; echo $$; wait";
    let ended = run(shell(script, Duration::from_secs(2))).await;
    assert_eq!(ended.how, How::TimedOut(Duration::from_secs(2)));
    assert_eq!(ended.output.len(), 2);
    for pid in &ended.output {
        assert_gone(pid).await;
    }
}

#[tokio::test]
async fn a_background_process_does_not_hold_up_the_end() {
    let ended = run(shell("sleep 1000 & echo $!", LONG)).await;
    assert_eq!(ended.how, How::Exit(0));
    let pid = ended.output[0].parse().unwrap();
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn endless_output_is_cut_to_its_last_lines() {
    let ended = run(shell("i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo line $i; done", LONG));
    let output = ended.await.output;
    assert_eq!(output.len(), output::OUTPUT_LINES);
    assert_eq!(output[output::OUTPUT_LINES - 1], "line 5000");
}

#[tokio::test]
async fn a_group_takes_the_place_of_the_users_own() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: this needs to be root");
        return;
    }
    let mut command = shell("id -un; id -gn", LONG);
    command.user = Some(user("nobody", Some("daemon")));
    assert_eq!(run(command).await.output, ["nobody", "daemon"]);
}

#[tokio::test]
async fn a_program_that_others_can_write_to_is_not_run_unless_that_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("hook");
    std::fs::write(&program, "#!/bin/sh\necho ran\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&program, mode).unwrap();
    let argv = vec![program.display().to_string()];
    let ended = run(Command { argv: argv.clone(), ..shell("", LONG) }).await;
    let said = ended.to_string();
    assert!(said.starts_with("not started: others could replace "), "{said}");
    let ended = run(Command { argv, insecure: true, ..shell("", LONG) }).await;
    assert_eq!(ended.output, ["ran"]);
}

#[tokio::test]
async fn what_ends_with_the_daemon_is_killed_when_it_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pids");
    let script = format!("sleep 1000 & echo $! $$ >{0}.new; mv {0}.new {0}; wait", path.display());
    let command = Command { lifetime: Lifetime::Ours, ..shell(&script, LONG) };
    let running = tokio::spawn(run(command));
    let deadline = Instant::now() + Duration::from_secs(20);
    let pids = loop {
        assert!(Instant::now() < deadline, "it does not start");
        match std::fs::read_to_string(&path) {
            Ok(pids) => break pids,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    running.abort();
    for pid in pids.split_whitespace() {
        assert_gone(pid).await;
    }
}

#[tokio::test]
async fn what_cannot_be_ended_is_told_until_it_is_gone() {
    // The leader's child makes one of its own, leaves the group and never asks how that one ends:
    // its remains stay in the group, as a process does that waits for the kernel.
    let script = "import os, time\n\
        if os.fork(): time.sleep(1000)\n\
        if not os.fork(): time.sleep(1000)\n\
        os.setsid()\n\
        print(os.getpid(), flush=True)\n\
        time.sleep(1000)";
    let argv = ["python3", "-c", script].map(str::to_owned).to_vec();
    let timeout = Duration::from_secs(3);
    let ended = run(Command { argv, lifetime: Lifetime::Ours, ..shell("", timeout) }).await;
    assert_eq!(ended.how, How::TimedOut(timeout));
    let mut left = ended.left.expect("something is left");
    assert!(!left.is_gone());
    let other = Pid::from_raw(ended.output[0].parse().unwrap());
    nix::sys::signal::kill(other, Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !left.is_gone() {
        assert!(Instant::now() < deadline, "it is never gone");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A zombie is gone: it runs nothing, and whoever inherited it reaps it in its own time.
async fn assert_gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let state = stat.ok().and_then(|stat| stat.rsplit(") ").next()?.chars().next());
        match state {
            None | Some('Z' | 'X') => return,
            Some(state) if Instant::now() > deadline => panic!("{pid} still there: {state}"),
            Some(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}
