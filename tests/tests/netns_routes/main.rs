//! Links, addresses, routes and rules on the real kernel: what is declared is what the kernel has, or the reason is told,
//! whatever links do and whoever is killed.

mod cloud;
mod killed;
mod link_down;
mod policy;
mod weather;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use lockstep_lab::Node;
use lockstep_tests::daemon::Lockstep;
use serde_json::Value;

/// Runs `ip ARGUMENTS` on a node.
#[track_caller]
fn ip(node: &Node, arguments: &str) -> String {
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace());
    let output = node.output(command).expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The routes of a table as `ip` shows them, in the order of their text; `family` is `-4` or `-6`.
fn routes(node: &Node, family: &str, table: &str) -> Vec<String> {
    // A table that never had a route is an error to `ip`.
    let mut command = Command::new("ip");
    command.args([family, "route", "show", "table", table]);
    let output = node.output(command).expect("ip runs");
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut routes: Vec<String> = list.lines().map(readable).collect();
    routes.sort();
    routes
}

/// A declared route as `lockstep status` tells it.
#[track_caller]
fn route(lockstep: &Lockstep, table: &str, destination: &str) -> Value {
    let status = lockstep.status();
    let routes = status["routes"].as_array().expect("a list");
    routes
        .iter()
        .find(|route| route["table"] == table && route["destination"] == destination)
        .unwrap_or_else(|| panic!("no {destination} of {table} in {routes:#?}"))
        .clone()
}

/// Whether all of `lists` in `lockstep routes` are in the kernel, and there are any.
fn installed(lockstep: &Lockstep) -> bool {
    let told = lockstep.ask(&["routes"]);
    let lists = ["links", "addresses", "routes", "rules"];
    let mut all = lists.iter().flat_map(|list| told[list].as_array().expect("a list")).peekable();
    all.peek().is_some() && all.all(|object| object["state"] == "installed")
}

/// With single blanks.
fn readable(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn parsed(address: &str) -> ipnet::IpNet {
    address.parse().expect("an address")
}

fn write_script(path: &Path, body: &str) {
    // Replaced in one move: a script that is being written cannot be run.
    let new = path.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{body}\n")).expect("a script");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::rename(&new, path).expect("the script in its place");
}
