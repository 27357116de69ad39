//! What a Deployment wants, read once: numbers instead of options and percentages.

use crate::percent::scaled;
use api::IntOrString;
use api::apps::v1::{Deployment, DeploymentSpec};
use api::core::v1::PodTemplateSpec;

/// How old pods are replaced by new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All old ones go before the first new one comes.
    Recreate,
    /// Step by step.
    RollingUpdate {
        /// How many pods there may be above the wanted number.
        surge: i32,
        /// How many of the wanted number may be unavailable.
        unavailable: i32,
    },
}

/// What a Deployment wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How many pods.
    pub replicas: i32,
    /// How they are replaced.
    pub strategy: Strategy,
    /// How long a pod must be ready to count as available.
    pub min_ready_seconds: Option<i32>,
    /// After how many seconds without progress a rollout has failed; `None` for never.
    pub deadline_s: Option<i32>,
    /// How many old sets are kept; `None` for all.
    pub history_limit: Option<usize>,
    /// Whether only scaling is done.
    pub paused: bool,
    /// What its pods are made from.
    pub template: PodTemplateSpec,
}

impl Wanted {
    /// What `deployment` wants.
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.clone().unwrap_or_default();
        let replicas = spec.replicas.unwrap_or(1);
        Self {
            replicas,
            strategy: strategy(&spec, replicas),
            min_ready_seconds: spec.min_ready_seconds,
            // The greatest number means that there is none.
            deadline_s: spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX),
            history_limit: spec
                .revision_history_limit
                .filter(|limit| *limit != i32::MAX)
                .map(|limit| limit.max(0) as usize),
            paused: spec.paused.unwrap_or(false),
            template: spec.template,
        }
    }

    /// How many pods there may be above the wanted number.
    pub fn max_surge(&self) -> i32 {
        match self.strategy {
            Strategy::RollingUpdate { surge, .. } => surge,
            Strategy::Recreate => 0,
        }
    }

    /// How many of the wanted pods may be unavailable.
    pub fn max_unavailable(&self) -> i32 {
        match self.strategy {
            Strategy::RollingUpdate { unavailable, .. } => unavailable.min(self.replicas),
            Strategy::Recreate => 0,
        }
    }

    /// How many pods have to be available at any time.
    pub fn min_available(&self) -> i32 {
        self.replicas - self.max_unavailable()
    }
}

/// Upstream's `ResolveFenceposts`: surge is rounded up, unavailability down; if both come out as zero, nothing could
/// ever be replaced, so one pod may be unavailable. A text that is no percentage, which the API server refuses, is zero.
fn strategy(spec: &DeploymentSpec, replicas: i32) -> Strategy {
    let strategy = spec.strategy.as_ref();
    if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate")) {
        return Strategy::Recreate;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let number = |value: Option<&IntOrString>, round_up| {
        value.and_then(|value| scaled(value, replicas, round_up).ok()).unwrap_or(0).max(0)
    };
    let surge = number(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
    let unavailable = number(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
    Strategy::RollingUpdate { surge, unavailable: if surge == 0 && unavailable == 0 { 1 } else { unavailable } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::apps::v1::{DeploymentStrategy, RollingUpdateDeployment};

    fn rolling(surge: &str, unavailable: &str, replicas: i32) -> (i32, i32) {
        let number = |text: &str| match text.parse() {
            Ok(number) => IntOrString::Int(number),
            Err(_) => IntOrString::String(text.to_owned()),
        };
        let rolling =
            RollingUpdateDeployment { max_surge: Some(number(surge)), max_unavailable: Some(number(unavailable)) };
        let strategy = DeploymentStrategy { type_: None, rolling_update: Some(rolling) };
        let spec = DeploymentSpec { strategy: Some(strategy), replicas: Some(replicas), ..DeploymentSpec::default() };
        let wanted = Wanted::of(&Deployment { spec: Some(spec), ..Deployment::default() });
        (wanted.max_surge(), wanted.max_unavailable())
    }

    #[test]
    fn surge_is_rounded_up_and_unavailability_down() {
        assert_eq!(rolling("25%", "25%", 10), (3, 2));
        assert_eq!(rolling("25%", "25%", 1), (1, 0));
        assert_eq!(rolling("2", "3", 10), (2, 3));
    }

    #[test]
    fn one_pod_may_be_unavailable_if_nothing_else_could_move() {
        assert_eq!(rolling("0", "25%", 3), (0, 1));
        assert_eq!(rolling("0", "0", 10), (0, 1));
        assert_eq!(rolling("0", "25%", 0), (0, 0));
    }

    #[test]
    fn no_more_can_be_unavailable_than_are_wanted() {
        assert_eq!(rolling("0", "9", 4), (0, 4));
    }
}
