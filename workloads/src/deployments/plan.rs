//! What a user does next: a pure choice from a seed and from what was answered so far.

use super::ask::Ask;
use record::Answer;
use rt::random::Random;

/// Namespaces that the apps are spread over.
const NAMESPACES: [&str; 2] = ["default", "team-a"];

/// Every third app is left alone once it is there: whatever takes longer than users leave a thing as it is can be judged
/// on it only.
const ALONE_EVERY: u32 = 3;

/// One thing that a user does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Create a Deployment, its Service, and for every other app a budget.
    Create { app: u32, replicas: u32, version: u32 },
    /// Ask for another number of pods, by a patch of the Deployment.
    Scale { app: u32, replicas: u32 },
    /// Roll to another version; one that cannot run if `broken`.
    Roll { app: u32, version: u32, broken: bool },
    /// Stop a rollout where it is, or let it go on.
    Pause { app: u32, paused: bool },
    /// Delete the Deployment, its Service and budget.
    Delete { app: u32, foreground: bool },
    /// Switch between a rolling update and recreation, or change how much of a surge there may be.
    Strategy { app: u32, recreate: bool, surge: u32, unavailable: u32 },
}

/// What a user believes of one of their apps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct App {
    number: u32,
    exists: bool,
    replicas: u32,
    version: u32,
    /// The last version that could run.
    good: u32,
    broken: bool,
    paused: bool,
}

/// Chooses what one user does.
#[derive(Clone, Debug)]
pub(super) struct Planner {
    apps: Vec<App>,
    most_replicas: u32,
    random: Random,
}

/// What names of apps begin with.
const APP: &str = "app-";

/// Name of an app's Deployment, Service and budget.
pub fn app_name(app: u32) -> String {
    format!("{APP}{app}")
}

/// Namespace that an app lives in.
pub fn namespace_of(app: u32) -> &'static str {
    NAMESPACES[app as usize % NAMESPACES.len()]
}

/// Whether nobody changes an app once it is there.
pub(super) fn is_left_alone(app: u32) -> bool {
    app % ALONE_EVERY == ALONE_EVERY - 1
}

/// Whether nobody changes the app of this name.
pub(super) fn is_called_left_alone(name: &str) -> bool {
    name.strip_prefix(APP).and_then(|number| number.parse().ok()).is_some_and(is_left_alone)
}

/// Namespaces that must be there before the apps.
pub(super) fn namespaces() -> impl Iterator<Item = &'static str> {
    NAMESPACES.into_iter().filter(|name| *name != "default")
}

impl Planner {
    /// For a user who has these apps, each with up to so many pods.
    pub fn new(apps: impl IntoIterator<Item = u32>, most_replicas: u32, random: Random) -> Self {
        let apps = apps.into_iter().map(|number| App { number, ..App::default() }).collect();
        Self { apps, most_replicas: most_replicas.max(1), random }
    }

    /// What the user does now; `None` for a user without apps that change.
    pub fn next(&mut self) -> Option<Action> {
        if let Some(new) = self.apps.iter().find(|app| !app.exists) {
            let (app, version) = (new.number, new.version + 1);
            return Some(Action::Create { app, replicas: self.replicas(), version });
        }
        let changing: Vec<&App> = self.apps.iter().filter(|app| !is_left_alone(app.number)).collect();
        if changing.is_empty() {
            return None;
        }
        let app = changing[self.random.below(changing.len() as u64) as usize].clone();
        let number = app.number;
        // A person who sees that something is broken or held up mends it soon.
        if app.broken && self.random.chance(500) {
            return Some(Action::Roll { app: number, version: app.good, broken: false });
        }
        if app.paused && self.random.chance(500) {
            return Some(Action::Pause { app: number, paused: false });
        }
        Some(match self.random.below(100) {
            0..=34 => Action::Scale { app: number, replicas: self.replicas() },
            35..=64 => Action::Roll { app: number, version: app.version + 1, broken: false },
            65..=71 => Action::Roll { app: number, version: app.version + 1, broken: true },
            72..=77 => Action::Roll { app: number, version: app.good, broken: false },
            78..=84 => Action::Pause { app: number, paused: true },
            85..=92 => Action::Delete { app: number, foreground: self.random.chance(400) },
            _ => {
                let surge = self.random.below(3) as u32;
                let unavailable = if surge == 0 { 1 } else { self.random.below(3) as u32 };
                Action::Strategy { app: number, recreate: self.random.chance(250), surge, unavailable }
            }
        })
    }

    /// What leaves the user's apps in order: everything exists, nothing is held up, and of what is broken two thirds are
    /// mended; the rest must be reported as beyond its deadline.
    pub fn tidy(&mut self) -> Vec<Action> {
        let apps = self.apps.clone();
        let mut actions = Vec::new();
        for app in apps {
            if !app.exists {
                let replicas = self.replicas();
                actions.push(Action::Create { app: app.number, replicas, version: app.version + 1 });
                continue;
            }
            if app.paused {
                actions.push(Action::Pause { app: app.number, paused: false });
            }
            if app.broken && self.random.chance(667) {
                actions.push(Action::Roll { app: app.number, version: app.good, broken: false });
            }
        }
        actions
    }

    /// What was answered to `action`, all of its requests taken together. What is not known to have happened is taken
    /// to have: the next action then finds out.
    pub fn learn(&mut self, action: &Action, answer: &Answer) {
        let happened = !matches!(answer, Answer::Refused { .. });
        let Some(app) = self.apps.iter_mut().find(|app| app.number == action.app()) else { return };
        if let (Answer::Refused { code: 404, .. }, false) = (answer, matches!(action, Action::Create { .. })) {
            app.exists = false;
            return;
        }
        if let (Answer::Refused { code: 409, .. }, Action::Create { .. }) = (answer, action) {
            app.exists = true;
            return;
        }
        if !happened {
            return;
        }
        match action {
            Action::Create { replicas, version, .. } => {
                let number = app.number;
                *app = App {
                    number,
                    exists: true,
                    replicas: *replicas,
                    version: *version,
                    good: *version,
                    ..App::default()
                };
            }
            Action::Scale { replicas, .. } => app.replicas = *replicas,
            Action::Roll { version, broken, .. } => {
                (app.version, app.broken) = (app.version.max(*version), *broken);
                if !broken {
                    app.good = *version;
                }
            }
            Action::Pause { paused, .. } => app.paused = *paused,
            Action::Delete { .. } => app.exists = false,
            Action::Strategy { .. } => {}
        }
    }

    /// Mostly a handful; now and then nothing, or as many as there may be.
    fn replicas(&mut self) -> u32 {
        match self.random.below(20) {
            0 => 0,
            1 | 2 => self.most_replicas,
            _ => 1 + self.random.below(u64::from(self.most_replicas)) as u32,
        }
    }
}

impl Action {
    /// Whose app it is about.
    pub fn app(&self) -> u32 {
        match self {
            Action::Create { app, .. }
            | Action::Scale { app, .. }
            | Action::Roll { app, .. }
            | Action::Pause { app, .. }
            | Action::Delete { app, .. }
            | Action::Strategy { app, .. } => *app,
        }
    }

    /// The requests that it consists of, in order.
    pub fn asks(&self) -> Vec<Ask> {
        match self {
            Action::Create { app, replicas, version } => Ask::create(*app, *replicas, *version),
            Action::Scale { app, replicas } => vec![Ask::scale(*app, *replicas)],
            Action::Roll { app, version, broken } => vec![Ask::roll(*app, *version, *broken)],
            Action::Pause { app, paused } => vec![Ask::pause(*app, *paused)],
            Action::Delete { app, foreground } => Ask::delete(*app, *foreground),
            Action::Strategy { app, recreate, surge, unavailable } => {
                vec![Ask::strategy(*app, *recreate, *surge, *unavailable)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn done() -> Answer {
        Answer::Ok { resource_version: 1 }
    }

    #[test]
    fn the_same_seed_and_answers_give_the_same_actions() {
        let play = |seed| {
            let mut planner = Planner::new([0, 1], 5, Random::from_seed(seed));
            let mut actions = Vec::new();
            for _ in 0..100 {
                let action = planner.next().unwrap();
                planner.learn(&action, &done());
                actions.push(action);
            }
            actions
        };
        assert_eq!(play(1), play(1));
        assert_ne!(play(1), play(2));
    }

    #[test]
    fn every_kind_of_action_comes_up_and_none_on_what_does_not_exist() {
        let mut planner = Planner::new([7], 5, Random::from_seed(3));
        let mut kinds = BTreeSet::new();
        let mut exists = false;
        for _ in 0..300 {
            let action = planner.next().unwrap();
            assert_eq!(matches!(action, Action::Create { .. }), !exists, "{action:?}");
            planner.learn(&action, &done());
            kinds.insert(format!("{action:?}").split(' ').next().unwrap().to_owned());
            exists = !matches!(action, Action::Delete { .. });
        }
        assert_eq!(kinds.len(), 6, "{kinds:?}");
    }

    #[test]
    fn an_app_that_is_left_alone_is_only_created() {
        let mut planner = Planner::new([2, 3], 5, Random::from_seed(3));
        let mut of_it = Vec::new();
        for _ in 0..100 {
            let action = planner.next().unwrap();
            planner.learn(&action, &done());
            of_it.extend((action.app() == 2).then_some(action));
        }
        assert!(matches!(of_it[..], [Action::Create { .. }]), "{of_it:?}");
    }

    #[test]
    fn tidying_up_leaves_everything_there_and_nothing_paused() {
        let mut planner = Planner::new([1, 2, 3], 5, Random::from_seed(5));
        for _ in 0..200 {
            let action = planner.next().unwrap();
            planner.learn(&action, &done());
        }
        for action in planner.tidy() {
            planner.learn(&action, &done());
        }
        assert!(planner.apps.iter().all(|app| app.exists && !app.paused));
    }

    #[test]
    fn a_refused_change_of_what_is_gone_is_followed_by_its_creation() {
        let mut planner = Planner::new([1], 5, Random::from_seed(5));
        planner.learn(&Action::Create { app: 1, replicas: 1, version: 1 }, &done());
        let gone = Answer::Refused { code: 404, reason: "NotFound".into() };
        planner.learn(&Action::Scale { app: 1, replicas: 2 }, &gone);
        assert!(matches!(planner.next(), Some(Action::Create { app: 1, .. })));
    }
}
