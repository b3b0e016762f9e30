//! The whole file: syntax first, then every section, then what they say of each other.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use lockstep_routes::Declared;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::problem::{Problem, Report};
use crate::reader::Table;
use crate::surroundings::Surroundings;
use crate::{
    Config, NotifyFifo, Scheduling, VirtualRouter, defaults, findings, group, network, replication,
    route, rule, schema, script, virtual_router, words,
};

/// A configuration that can be used, and what is odd about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// Reads `text`, which the diagnostics call `name` (its path).
///
/// # Errors
/// Every problem of the text, warnings among them, in the order of the file. When the syntax is
/// broken, what is missing or not known is not told: it may stand in the part that could not be
/// understood.
pub fn parse(
    name: &str,
    text: &str,
    surroundings: &Surroundings,
) -> Result<Checked, Vec<Diagnostic>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let syntax = errors.iter().map(|error| syntax_error(error, text)).collect();
    let report = Report::new(text, syntax);
    let config = read(&report, root.get_ref(), surroundings);
    let refused = report.has_errors();
    let diagnostics = report.into_diagnostics(name, text);
    match config {
        Some(config) if !refused => Ok(Checked { config, warnings: diagnostics }),
        _ => Err(diagnostics),
    }
}

fn syntax_error(error: &toml::de::Error, text: &str) -> Problem {
    let span = error.span().unwrap_or(text.len()..text.len());
    let problem = match (error.message(), text.get(span.clone())) {
        ("duplicate key", Some(key)) => {
            Problem::error(format!("`{key}` is set twice")).label("is set above already")
        }
        (message, _) => Problem::error(format!("this is not TOML: {message}")),
    };
    problem.at(span)
}

/// Everything that was understood. What was not has been reported, and is left out.
fn read(report: &Report, entries: &DeTable<'_>, surroundings: &Surroundings) -> Option<Config> {
    let root = Table::root(report, entries, &schema::ROOT);
    let known = allowed(surroundings, entries);
    let surroundings = known.as_ref();
    let own = router(&root, surroundings);

    let routers = virtual_router::read(&root, surroundings);
    let mut failover = group::read(&root, &routers, surroundings);
    let groups = group::Names::new(&failover);

    let replication = replication::read(&root, &groups).map(|(replication, follows)| {
        for group in &mut failover.groups {
            if replication.groups.contains(&group.name) {
                (group.replicated, group.limits) = (true, follows.limits);
                group.holds_forwarding = follows.holds_forwarding;
            }
        }
        replication
    });

    let tables = network::tables(&root, &surroundings.table_names);
    let (links, announcement_intervals) = network::interfaces(&root, &groups);
    let addresses = network::addresses(&root, &routers, &groups);
    let routes = route::routes(&root, &tables, &groups);
    let rules = rule::rules(&root, &tables, &groups);
    let declared = Declared {
        links,
        addresses,
        routes: routes.iter().map(|read| Arc::clone(&read.route)).collect(),
        rules: rules.iter().map(|read| read.rule.clone()).collect(),
        tables: tables.into_list().into(),
        virtual_links: routers
            .iter()
            .filter_map(|router| Some(router.virtual_link.as_ref()?.get_ref().clone()))
            .collect(),
    };
    // What is said of a whole that was understood in part may be wrong.
    if !report.has_errors() {
        findings::report(report, &declared, &surroundings.table_names, &routes, &rules);
    }

    if ["vrrp", "interface", "address", "route", "rule"].iter().all(|key| root.get(key).is_none()) {
        let problem = Problem::warning("nothing is configured")
            .label("no virtual router, address, route, rule or interface");
        report.push(problem.at(0..0));
    }
    let virtual_routers = routers
        .into_iter()
        .filter_map(|router| {
            let group = groups.of(router.name.get_ref())?;
            let carriers = router.carriers();
            let (name, interface) = (router.name.into_inner(), router.interface?.into_inner());
            Some(VirtualRouter {
                name,
                group,
                interface,
                vrrp: router.vrrp?,
                source: router.source,
                virtual_link: router.virtual_link.map(|link| link.into_inner().name),
                carriers,
                advertise_from: router.advertise_from,
                accept: router.accept,
                announce: router.announce,
            })
        })
        .collect();
    let own = own?;
    Some(Config {
        router_id: own.id,
        virtual_routers,
        failover,
        replication,
        declared,
        scheduling: own.scheduling,
        announcement_intervals,
        state_directory: own.state_directory,
        notify_fifo: own.notify_fifo,
        allow_insecure_scripts: own.allow_insecure_scripts,
    })
}

/// The surroundings without what the file allows.
fn allowed<'s>(surroundings: &'s Surroundings, entries: &DeTable<'_>) -> Cow<'s, Surroundings> {
    let router = entries.get("router").and_then(|router| router.get_ref().as_table());
    let allow = router.and_then(|router| router.get("allow-insecure-scripts"));
    if !matches!(allow.map(toml::Spanned::get_ref), Some(DeValue::Boolean(true))) {
        return Cow::Borrowed(surroundings);
    }
    let mut surroundings = surroundings.clone();
    surroundings.programs.retain(|_, doubt| !doubt.insecure);
    Cow::Owned(surroundings)
}

/// What `[router]` says.
struct Router {
    id: String,
    scheduling: Scheduling,
    state_directory: PathBuf,
    notify_fifo: Option<NotifyFifo>,
    allow_insecure_scripts: bool,
}

fn router(root: &Table<'_>, surroundings: &Surroundings) -> Option<Router> {
    let host = Some(&surroundings.hostname).filter(|name| !name.is_empty()).cloned();
    let host = host.unwrap_or_else(|| defaults::ROUTER_ID.to_owned());
    let state_directory = surroundings.state_directory.clone();
    let state_directory =
        state_directory.unwrap_or_else(|| PathBuf::from(defaults::STATE_DIRECTORY));
    let Some(value) = root.get("router") else {
        return Some(Router {
            id: host,
            scheduling: Scheduling::default(),
            state_directory,
            notify_fifo: None,
            allow_insecure_scripts: false,
        });
    };
    let router = value.table(&schema::ROUTER, "the router")?;
    let id =
        router.or("id", host, |id| id.parse(|text| words::name(text).map(|()| text.to_owned())));
    let real_time = router.optional("real-time", |value| value.integer(1..=99_u8));
    let lock_memory = router.or("lock-memory", false, crate::reader::Value::boolean);
    let state_directory =
        router.or("state-directory", state_directory, |value| value.parse(words::directory));
    let notify_fifo = script::notify_fifo(&router, surroundings);
    let allow_insecure_scripts =
        router.or("allow-insecure-scripts", false, crate::reader::Value::boolean);
    Some(Router {
        id: id?,
        scheduling: Scheduling { real_time: real_time?, lock_memory: lock_memory? },
        state_directory: state_directory?,
        notify_fifo: notify_fifo?,
        allow_insecure_scripts: allow_insecure_scripts?,
    })
}
