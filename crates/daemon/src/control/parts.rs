//! Answers in parts about the network: what the first part was taken from serves the others too, so
//! that they fit together and the kernel is read once.

use anyhow::Context as _;
use tokio::task::spawn_blocking;

use super::assemble::Sources;
use super::protocol::{PART_LIMIT, Selection};
use crate::network::Assessed;
use crate::status::{Difference, Network, PlannedChange};

/// What one connection goes through part by part; kept until the last part has been given.
#[derive(Default)]
pub(super) struct Parts {
    assessed: Option<Assessed>,
    planned: Option<Vec<PlannedChange>>,
}

impl Parts {
    /// A part of the declared objects.
    pub(super) async fn routes(
        &mut self,
        of: Selection,
        after: Option<u64>,
        limit: u32,
        sources: &Sources,
    ) -> anyhow::Result<Network> {
        let begun = self.assessed.take().filter(|_| after.is_some());
        let assessed = if let Some(assessed) = begun {
            assessed
        } else {
            let snapshot = sources.look().await.context(NO_ANSWER)?;
            spawn_blocking(move || snapshot.assess()).await?
        };
        let limit = limit.clamp(1, PART_LIMIT) as usize;
        let part = move || {
            let network = assessed.part(&of, after.unwrap_or(0), limit);
            (assessed, network)
        };
        let (assessed, network) = spawn_blocking(part).await?;
        let network = network?;
        self.assessed = network.next.is_some().then_some(assessed);
        Ok(network)
    }

    /// A part of what would be done now.
    pub(super) async fn difference(
        &mut self,
        after: Option<u64>,
        limit: u32,
        sources: &Sources,
    ) -> anyhow::Result<Difference> {
        let begun = self.planned.take().filter(|_| after.is_some());
        let planned = if let Some(planned) = begun {
            planned
        } else {
            let snapshot = sources.look().await.context(NO_ANSWER)?;
            spawn_blocking(move || snapshot.plan()).await?
        };
        let from = usize::try_from(after.unwrap_or(0)).unwrap_or(usize::MAX).min(planned.len());
        let end = (from + limit.clamp(1, PART_LIMIT) as usize).min(planned.len());
        let changes = planned[from..end].to_vec();
        let is_end = end == planned.len();
        self.planned = (!is_end).then_some(planned);
        Ok(Difference { changes, next: (!is_end).then_some(end as u64) })
    }
}

const NO_ANSWER: &str = "no answer from the network thread";
