use super::*;
use crate::model::{Draws, Model, at};
use crate::replicaset::{self, Replicated};
use api::apps::v1::{DeploymentSpec, DeploymentStrategy, ReplicaSetStatus, RollingUpdateDeployment};
use api::core::v1::{Container, PodSpec, PodTemplateSpec};
use api::{IntOrString, ObjectMeta};
use expect_test::{Expect, expect};

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "web".to_owned())])
}

fn template(image: &str) -> PodTemplateSpec {
    let container = Container { name: "main".to_owned(), image: Some(image.to_owned()), ..Container::default() };
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels()), ..ObjectMeta::default() }),
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
    }
}

fn number(text: &str) -> Option<IntOrString> {
    Some(text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int))
}

fn deployment(replicas: i32, surge: &str, unavailable: &str) -> Deployment {
    let rolling = RollingUpdateDeployment { max_surge: number(surge), max_unavailable: number(unavailable) };
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector { match_labels: Some(labels()), match_expressions: None },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(rolling),
            }),
            template: template("v1"),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(10),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn recreate(replicas: i32) -> Deployment {
    let mut deployment = deployment(replicas, "0", "0");
    let strategy = DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None };
    deployment.spec.as_mut().unwrap().strategy = Some(strategy);
    deployment
}

/// The whole: a Deployment, its sets and their pods.
struct World {
    model: Model,
    deployments: Deployments,
    /// Images whose pods never get ready.
    broken: &'static str,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        let mut model = Model::new();
        model.put(deployment);
        Self { model, deployments: Deployments { refusals: BTreeMap::new() }, broken: "broken" }
    }

    fn deployment(&self) -> Arc<Deployment> {
        self.model.caches.get::<Deployment>("default", "web").unwrap().clone()
    }

    fn edit(&mut self, edit: impl FnOnce(&mut DeploymentSpec)) {
        self.model.edit::<Deployment>("web", |deployment| edit(deployment.spec.as_mut().unwrap()));
    }

    fn plan(&mut self) -> Plan {
        self.deployments.reconcile(&self.model.caches, &Key::new("default", "web"), self.model.now())
    }

    fn step(&mut self) -> bool {
        let plan = self.plan();
        self.model.apply(&plan).unwrap();
        !plan.is_empty()
    }

    fn step_sets(&mut self) -> bool {
        let names: Vec<String> = self.model.caches.all::<ReplicaSet>().map(|set| set.name().to_owned()).collect();
        let mut any = false;
        for name in names {
            any |= self.step_set(&name);
        }
        any
    }

    fn step_set(&mut self, name: &str) -> bool {
        let key = Key::new("default", name);
        let plan = replicaset::replicasets().reconcile(&self.model.caches, &key, self.model.now());
        self.model.apply(&plan).unwrap();
        !plan.is_empty()
    }

    fn step_pod(&mut self, name: &str) {
        let pod = self.model.caches.get::<Pod>("default", name).unwrap();
        let image = pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap_or_default();
        if image != self.broken || pod.is_terminating() || pod::node(pod).is_empty() {
            self.model.advance_pod(name);
        }
    }

    fn pods(&self) -> Vec<String> {
        self.model.caches.all::<Pod>().map(|pod| pod.name().to_owned()).collect()
    }

    /// Everybody acts in turn until nobody has anything to do.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.model.now_s += 1;
            let before = self.model.caches.clone();
            let mut any = self.step();
            any |= self.step_sets();
            for name in self.pods() {
                self.step_pod(&name);
            }
            any |= ["pods", "replicasets"].iter().any(|plural| {
                let resource = api::resource::RESOURCES.iter().find(|resource| resource.plural == *plural).unwrap();
                before.revision(resource) != self.model.caches.revision(resource)
            });
            if !any {
                return;
            }
        }
        panic!("it never settles: {}", self.show());
    }

    /// Sets by revision: `2:5/3` has five pods, of which three are available.
    fn show(&self) -> String {
        let mut sets: Vec<&Arc<ReplicaSet>> = self.model.caches.all::<ReplicaSet>().collect();
        sets.sort_by_key(|set| sets::revision(set));
        let sets =
            sets.iter().map(|set| format!("{}:{}/{}", sets::revision(set), set.replicas(), set.counts().available));
        let deployment = self.deployment();
        let conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut conditions: Vec<String> = conditions
            .map(|condition| format!("{}={}", condition.type_, condition.reason.as_deref().unwrap_or_default()))
            .collect();
        conditions.sort();
        let revision = deployment.annotations().get(sets::REVISION).cloned().unwrap_or_default();
        format!("rev {revision} [{}] {}", sets.collect::<Vec<_>>().join(" "), conditions.join(" "))
    }

    fn check(&self, expected: Expect) {
        expected.assert_eq(&self.show());
    }

    fn assert_promises(&self, about: &str) {
        let wanted = Wanted::of(&self.deployment());
        let min_ready = wanted.min_ready_seconds.unwrap_or(0);
        let is_available =
            |pod: &&Arc<Pod>| pod::is_active(pod) && pod::is_available(pod, min_ready, at(self.model.now_s));
        let available = self.model.caches.all::<Pod>().filter(is_available).count() as i32;
        assert!(available >= wanted.min_available(), "{about}: {available} of {} available", wanted.min_available());
        let total: i32 = self.model.caches.all::<ReplicaSet>().map(|set| set.replicas()).sum();
        assert!(total <= wanted.replicas + wanted.max_surge(), "{about}: {total} pods asked for");
    }
}

#[test]
fn a_new_deployment_gets_its_set_and_comes_up() {
    let mut world = World::new(deployment(3, "25%", "25%"));
    world.step();
    world.check(expect!["rev 1 [1:3/0] Available=MinimumReplicasUnavailable Progressing=NewReplicaSetCreated"]);
    let set = world.model.caches.all::<ReplicaSet>().next().unwrap();
    let hash = &set.labels()[sets::HASH_LABEL];
    assert_eq!(set.name(), format!("web-{hash}"));
    assert_eq!(set.spec.as_ref().unwrap().selector.match_labels.as_ref().unwrap()[sets::HASH_LABEL], *hash);
    expect!["ScalingReplicaSet Scaled up replica set web-k7fv5t5f7r from 0 to 3"]
        .assert_eq(&world.model.events.join("\n"));
    world.settle();
    world.check(expect!["rev 1 [1:3/3] Available=MinimumReplicasAvailable Progressing=NewReplicaSetAvailable"]);
    let status = world.deployment().status.clone().unwrap();
    assert_eq!((status.replicas, status.updated_replicas, status.unavailable_replicas), (Some(3), Some(3), None));
    assert_eq!(status.terminating_replicas, Some(0));
}

#[test]
fn a_rollout_ends_with_the_new_set_alone_and_a_rollback_takes_the_next_revision() {
    let mut world = World::new(deployment(4, "25%", "25%"));
    world.settle();
    world.edit(|spec| spec.template = template("v2"));
    world.settle();
    world.check(expect!["rev 2 [1:0/0 2:4/4] Available=MinimumReplicasAvailable Progressing=NewReplicaSetAvailable"]);
    world.edit(|spec| spec.template = template("v1"));
    world.settle();
    world.check(expect!["rev 3 [2:0/0 3:4/4] Available=MinimumReplicasAvailable Progressing=NewReplicaSetAvailable"]);
    let back = world.model.caches.all::<ReplicaSet>().find(|set| sets::revision(set) == 3).unwrap();
    assert_eq!(back.annotations()["deployment.kubernetes.io/revision-history"], "1");
}

/// Sizes of the new set and of the old ones, oldest first, as `replicas/available`: what they become in one step.
fn step(replicas: i32, surge: &str, unavailable: &str, sizes: &str) -> String {
    let mut world = World::new(deployment(replicas, surge, unavailable));
    let uid = world.deployment().uid().to_owned();
    for (age, size) in sizes.split_whitespace().rev().enumerate() {
        let (size, available) = size.split_once('/').unwrap();
        let mut deployment = Deployment::clone(&world.deployment());
        let image = if age + 1 == sizes.split_whitespace().count() { "v1".to_owned() } else { format!("old-{age}") };
        let spec = deployment.spec.as_mut().unwrap();
        spec.template = template(&image);
        let wanted = Wanted::of(&deployment);
        let hash = sets::hash(&wanted.template, None);
        let old: Vec<Set> = world.model.caches.all::<ReplicaSet>().cloned().map(Set::new).collect();
        let mut set = sets::make(&deployment, &wanted, &hash, &old);
        set.metadata.owner_references.as_mut().unwrap()[0].uid = uid.clone();
        set.spec.as_mut().unwrap().replicas = Some(size.parse().unwrap());
        let available = available.parse().unwrap();
        let replicas = size.parse().unwrap();
        let (available, observed_generation) = (Some(available), Some(1));
        let status = ReplicaSetStatus {
            replicas,
            available_replicas: available,
            observed_generation,
            ..ReplicaSetStatus::default()
        };
        set.status = Some(status);
        world.model.now_s += 1;
        world.model.put(set);
    }
    world.step();
    let mut sets: Vec<_> = world.model.caches.all::<ReplicaSet>().collect();
    sets.sort_by_key(|set| std::cmp::Reverse(sets::revision(set)));
    sets.iter().map(|set| set.replicas().to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_new_set_grows_as_far_as_the_surge_allows() {
    assert_eq!(step(10, "3", "2", "0/0 10/10"), "3 10");
    assert_eq!(step(10, "0", "2", "0/0 10/10"), "0 8");
    assert_eq!(step(10, "5", "0", "2/2 8/8"), "7 8");
    assert_eq!(step(10, "0", "2", "9/9 0/0"), "10 0");
}

#[test]
fn old_sets_shrink_oldest_first_as_far_as_availability_allows() {
    assert_eq!(step(10, "3", "2", "3/0 10/10"), "3 8");
    assert_eq!(step(10, "3", "2", "5/5 4/4 4/4"), "5 3 0");
    assert_eq!(step(10, "3", "0", "3/1 10/10"), "3 9");
    assert_eq!(step(10, "3", "0", "3/0 10/10"), "3 10");
}

#[test]
fn unhealthy_old_pods_go_before_healthy_ones() {
    assert_eq!(step(10, "3", "2", "3/0 5/5 5/1"), "3 5 3");
    assert_eq!(step(10, "0", "2", "0/0 10/3"), "0 8");
}

#[test]
fn a_surplus_that_is_about_to_go_is_not_counted_on() {
    // The old set has been told to shrink to eight and still counts ten: nothing more may go.
    assert_eq!(step(10, "1", "2", "3/1 8/10"), "3 7");
    assert_eq!(step(10, "3", "0", "3/0 10/13"), "3 10");
}

#[test]
fn rollouts_keep_their_promises() {
    let combinations = [("1", "0"), ("0", "1"), ("25%", "25%"), ("100%", "0"), ("0", "100%"), ("2", "3"), ("0", "0")];
    for (seed, (surge, unavailable)) in combinations.into_iter().enumerate() {
        for replicas in [1, 3, 7, 10] {
            for min_ready in [None, Some(3)] {
                let about =
                    format!("{replicas} pods, surge {surge}, unavailable {unavailable}, min ready {min_ready:?}");
                let mut wanted = deployment(replicas, surge, unavailable);
                wanted.spec.as_mut().unwrap().min_ready_seconds = min_ready;
                let mut world = World::new(wanted);
                world.settle_minutes();
                let mut draws = Draws(seed as u64 * 10_000 + replicas as u64 * 1000);
                for round in 2..5 {
                    world.edit(|spec| spec.template = template(&format!("v{round}")));
                    let steps = roll(&mut world, &mut draws, &about);
                    assert!(steps < 3000, "{about}: no end: {}", world.show());
                }
            }
        }
    }
}

impl World {
    /// Settles where pods have to be ready for a while.
    fn settle_minutes(&mut self) {
        for _ in 0..5 {
            self.settle();
            self.model.now_s += 60;
        }
    }

    fn is_done(&self) -> bool {
        let deployment = self.deployment();
        let wanted = Wanted::of(&deployment);
        let status = deployment.status.clone().unwrap_or_default();
        status.observed_generation == Some(deployment.generation())
            && status.updated_replicas == Some(wanted.replicas)
            && status.replicas == Some(wanted.replicas)
            && status.available_replicas == Some(wanted.replicas)
    }
}

/// Everybody acts in an order that is drawn, and the promises hold after each act. Returns the number of acts.
fn roll(world: &mut World, draws: &mut Draws, about: &str) -> usize {
    for step in 0..3000 {
        let pods = world.pods();
        let sets: Vec<String> = world.model.caches.all::<ReplicaSet>().map(|set| set.name().to_owned()).collect();
        match draws.below(8) {
            0 => world.model.now_s += 1,
            1 => drop(world.step()),
            2..=3 if !sets.is_empty() => drop(world.step_set(&sets[draws.below(sets.len())])),
            _ if !pods.is_empty() => world.step_pod(&pods[draws.below(pods.len())]),
            _ => {}
        }
        world.assert_promises(about);
        if world.is_done() {
            return step;
        }
    }
    3000
}

#[test]
fn scaling_during_a_rollout_shares_by_size_and_the_rollout_goes_on() {
    let mut world = World::new(deployment(10, "3", "2"));
    world.settle();
    world.edit(|spec| spec.template = template("broken"));
    world.settle();
    world.check(expect!["rev 2 [1:8/8 2:5/0] Available=MinimumReplicasAvailable Progressing=ReplicaSetUpdated"]);
    world.edit(|spec| spec.replicas = Some(20));
    world.step();
    // 13 become 23: the larger old set gets its part of ten first, rounded, and the new one the rest.
    world.check(expect!["rev 2 [1:14/8 2:9/0] Available=MinimumReplicasUnavailable Progressing=ReplicaSetUpdated"]);
    world.edit(|spec| spec.replicas = Some(5));
    world.settle();
    world.check(expect!["rev 2 [1:3/3 2:5/0] Available=MinimumReplicasAvailable Progressing=ReplicaSetUpdated"]);
    world.edit(|spec| spec.template = template("v3"));
    world.settle();
    world.check(expect![
        "rev 3 [1:0/0 2:0/0 3:5/5] Available=MinimumReplicasAvailable Progressing=NewReplicaSetAvailable"
    ]);
}

#[test]
fn a_stale_size_annotation_does_not_stop_a_rollout() {
    // As after a scaling of which the second update got lost in a conflict, and was then undone.
    for (surge, stale) in [("0", "7"), ("3", "7")] {
        let mut world = World::new(deployment(4, surge, "1"));
        world.settle();
        let name = world.model.caches.all::<ReplicaSet>().next().unwrap().name().to_owned();
        world.model.edit::<ReplicaSet>(&name, |set| {
            let annotations = set.metadata.annotations.as_mut().unwrap();
            annotations.insert("deployment.kubernetes.io/desired-replicas".to_owned(), stale.to_owned());
        });
        world.edit(|spec| spec.template = template("v2"));
        world.settle();
        assert!(world.is_done(), "{}", world.show());
    }
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let mut world = World::new(deployment(3, "1", "0"));
    world.settle();
    world.edit(|spec| {
        spec.paused = Some(true);
        spec.template = template("v2");
        spec.replicas = Some(5);
    });
    world.settle();
    world.check(expect!["rev 1 [1:5/5] Available=MinimumReplicasAvailable Progressing=DeploymentPaused"]);
    world.edit(|spec| spec.paused = None);
    world.step();
    world.check(expect!["rev 2 [1:5/5 2:1/0] Available=MinimumReplicasAvailable Progressing=NewReplicaSetCreated"]);
    world.settle();
    world.check(expect!["rev 2 [1:0/0 2:5/5] Available=MinimumReplicasAvailable Progressing=NewReplicaSetAvailable"]);
}

#[test]
fn a_rollout_that_cannot_work_misses_its_deadline_and_a_rollback_recovers() {
    let mut world = World::new(deployment(4, "1", "1"));
    world.settle();
    world.edit(|spec| spec.template = template("broken"));
    world.settle();
    let plan = world.plan();
    let wait = plan.requeue_after.unwrap();
    assert!(plan.is_empty() && wait.as_secs() > 500 && wait.as_secs() <= 601, "{wait:?}");
    world.model.now_s += wait.as_secs() as i64;
    world.settle();
    world.check(expect!["rev 2 [1:3/3 2:2/0] Available=MinimumReplicasAvailable Progressing=ProgressDeadlineExceeded"]);
    assert_eq!(world.plan().requeue_after, None);
    world.edit(|spec| spec.template = template("v1"));
    world.settle();
    world.check(expect!["rev 3 [2:0/0 3:4/4] Available=MinimumReplicasAvailable Progressing=NewReplicaSetAvailable"]);
}

#[test]
fn recreate_starts_new_pods_only_when_the_last_old_one_is_gone() {
    let mut world = World::new(recreate(3));
    world.settle();
    world.edit(|spec| spec.template = template("v2"));
    let mut draws = Draws(5);
    for _ in 0..2000 {
        world.model.now_s += 1;
        let pods = world.pods();
        match draws.below(4) {
            0 => drop(world.step()),
            1 => drop(world.step_sets()),
            _ if !pods.is_empty() => world.step_pod(&pods[draws.below(pods.len())]),
            _ => {}
        }
        let image = |pod: &Arc<Pod>| pod.spec.as_ref().unwrap().containers[0].image.clone();
        let images: std::collections::BTreeSet<_> = world.model.caches.all::<Pod>().map(image).collect();
        assert!(images.len() <= 1, "old and new at once: {}", world.show());
    }
    world.check(expect!["rev 2 [1:0/0 2:3/3] Available=MinimumReplicasAvailable Progressing=NewReplicaSetAvailable"]);
}

#[test]
fn only_as_many_old_sets_stay_as_the_history_has_room_for() {
    let mut world = World::new(deployment(1, "1", "0"));
    world.edit(|spec| spec.revision_history_limit = Some(2));
    for version in 1..=6 {
        world.edit(|spec| spec.template = template(&format!("v{version}")));
        world.settle();
    }
    world.check(expect![
        "rev 6 [4:0/0 5:0/0 6:1/1] Available=MinimumReplicasAvailable Progressing=NewReplicaSetAvailable"
    ]);
}

#[test]
fn a_name_that_somebody_else_has_is_a_collision_and_another_one_is_tried() {
    let mut world = World::new(deployment(1, "1", "0"));
    let wanted = Wanted::of(&world.deployment());
    let name = sets::set_name(&world.deployment(), &sets::hash(&wanted.template, None));
    world.model.put(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some("default".to_owned()),
            ..ObjectMeta::default()
        },
        ..ReplicaSet::default()
    });
    world.step();
    assert_eq!(world.deployment().status.as_ref().unwrap().collision_count, Some(1));
    world.step();
    let others = world.model.caches.all::<ReplicaSet>().filter(|set| set.name() != name);
    assert_eq!(others.count(), 1);
}

#[test]
fn an_orphan_that_matches_is_adopted_and_one_that_matches_no_more_released() {
    let mut world = World::new(deployment(2, "1", "0"));
    world.settle();
    let name = world.model.caches.all::<ReplicaSet>().next().unwrap().name().to_owned();
    let owners = |world: &World| world.model.caches.get::<ReplicaSet>("default", &name).unwrap().owners().len();
    world.model.edit::<ReplicaSet>(&name, |set| set.metadata.owner_references = None);
    let plan = world.plan();
    let writes: Vec<String> = plan.writes.iter().map(ToString::to_string).collect();
    assert_eq!(writes, ["patch deployments default/web".to_owned(), format!("patch replicasets default/{name}")]);
    world.model.apply(&plan).unwrap();
    assert_eq!(owners(&world), 1);
    world.model.edit::<ReplicaSet>(&name, |set| set.metadata.labels = None);
    world.step();
    assert_eq!(owners(&world), 0);
}

#[test]
fn a_deployment_that_is_being_deleted_changes_nothing_but_its_status() {
    let mut world = World::new(deployment(2, "1", "0"));
    world.settle();
    world.model.edit::<Deployment>("web", |deployment| {
        deployment.metadata.deletion_timestamp = Some(api::Time(at(5)));
        deployment.spec.as_mut().unwrap().replicas = Some(9);
    });
    let writes: Vec<String> = world.plan().writes.iter().map(ToString::to_string).collect();
    assert_eq!(writes, ["update deployments/status default/web"]);
}

#[test]
fn a_deployment_that_selects_everything_is_told_so() {
    let mut all = deployment(2, "1", "0");
    all.spec.as_mut().unwrap().selector = LabelSelector::default();
    let mut world = World::new(all);
    let plan = world.plan();
    assert_eq!(plan.notes[0].reason, "SelectingAll");
    world.model.apply(&plan).unwrap();
    assert!(world.plan().is_empty());
    assert_eq!(world.model.caches.all::<ReplicaSet>().count(), 0);
}

#[test]
fn a_refused_set_becomes_a_condition_and_is_tried_again() {
    let mut world = World::new(deployment(2, "1", "0"));
    let create = world.plan().writes[0].clone();
    let key = Key::new("default", "web");
    for _ in 0..2 {
        world.deployments.refused(&key, &create, &Status::new(403, "Forbidden", "no"));
        world.step();
    }
    world.settle();
    world.check(expect!["rev 1 [1:2/2] Available=MinimumReplicasAvailable Progressing=NewReplicaSetAvailable"]);
    assert!(world.model.events[0].starts_with("ReplicaSetCreateError Failed to create new replica set"));
}

#[test]
fn equal_views_give_equal_plans() {
    let mut world = World::new(deployment(10, "3", "2"));
    world.settle();
    world.edit(|spec| spec.template = template("v2"));
    assert_eq!(world.plan(), world.plan());
}
