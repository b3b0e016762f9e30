//! Orders about mastership: hand-over and maintenance.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::assemble::{PATIENCE, Sources, ask};
use super::protocol::{Maintained, Switched};
use crate::messages::{CoreEvent, MaintenanceChange};

impl Sources {
    /// Hands a group over; an error when that was refused or called off.
    pub(super) async fn switchover(
        &self,
        group: String,
        force: bool,
        patience: Duration,
    ) -> anyhow::Result<Switched> {
        let (asker, answer) = oneshot::channel();
        self.order(CoreEvent::Switchover { group, force, asker }).await?;
        wait(answer, patience).await?.map_err(|why| anyhow!(why))
    }

    /// Orders or ends maintenance of a group, or of all. It is written down before it is in force.
    pub(super) async fn maintain(
        &self,
        group: Option<String>,
        on: bool,
        patience: Duration,
    ) -> anyhow::Result<Vec<Maintained>> {
        let core = ask(&self.core, CoreEvent::Status).await.context(NO_ANSWER)?;
        let mut groups: Vec<String> = core.groups.into_iter().map(|group| group.name).collect();
        if let Some(group) = group {
            if !groups.contains(&group) {
                bail!("there is no group {group}");
            }
            groups = vec![group];
        }
        // Held until the core has been told: the file and what is in force agree.
        let mut maintenance = self.maintenance.lock().await;
        maintenance.set(&groups, on)?;
        let mut waiting = Vec::new();
        for group in groups {
            let since = maintenance.since().get(&group).cloned();
            let (asker, answer) = oneshot::channel();
            let change = MaintenanceChange {
                group: group.clone(),
                since: since.clone(),
                asker: Some(asker),
            };
            self.order(CoreEvent::Maintenance(change)).await?;
            waiting.push((group, since, answer));
        }
        drop(maintenance);
        let mut maintained = Vec::new();
        for (group, since, answer) in waiting {
            let (handed_over, left_because) = match wait(answer, patience).await? {
                Ok(switched) => (Some(switched).filter(|one| one.master.is_some()), None),
                Err(why) => (None, Some(why)),
            };
            maintained.push(Maintained { group, since, handed_over, left_because });
        }
        Ok(maintained)
    }

    async fn order(&self, order: CoreEvent) -> anyhow::Result<()> {
        let sent = timeout(PATIENCE, self.core.send(order)).await;
        sent.ok().and_then(Result::ok).context(NO_ANSWER)
    }
}

async fn wait<T>(answer: oneshot::Receiver<T>, patience: Duration) -> anyhow::Result<T> {
    let answered = timeout(patience, answer).await.ok().and_then(Result::ok);
    answered.context("no answer from the core thread; what was asked for may still happen")
}

const NO_ANSWER: &str = "no answer from the core thread";
