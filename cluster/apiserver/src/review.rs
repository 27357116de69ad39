//! Questions that clients ask about themselves: who they are, whether they may do something, what they may do.

use crate::auth::{Attributes, Rules, User};
use crate::core::Core;
use api::authentication::v1::{SelfSubjectReview, SelfSubjectReviewStatus, UserInfo};
use api::authorization::v1::{
    NonResourceAttributes, NonResourceRule, ResourceAttributes, ResourceRule, SelfSubjectAccessReview,
    SelfSubjectRulesReview, SubjectAccessReviewStatus, SubjectRulesReviewStatus,
};
use api::meta::v1::Time;
use api::{Resource, Status};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The question with its answer.
///
/// # Errors
/// 422: it is not clear what is asked.
pub fn answer(core: &Core, user: &User, review: &'static Resource, question: Value) -> Result<Value, Status> {
    match review.kind {
        "SelfSubjectReview" => {
            let mut review: SelfSubjectReview = read(question)?;
            review.metadata.creation_timestamp = Some(Time(core.now()));
            review.status = Some(SelfSubjectReviewStatus { user_info: Some(who(user)) });
            written(&review)
        }
        "SelfSubjectAccessReview" => {
            let mut review: SelfSubjectAccessReview = read(question)?;
            let spec = &review.spec;
            let (resource, path) = (spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
            review.status = Some(access(core, user, resource, path)?);
            written(&review)
        }
        _ => {
            let mut review: SelfSubjectRulesReview = read(question)?;
            if review.spec.namespace.as_deref().unwrap_or_default().is_empty() {
                // Upstream's words.
                return Err(Status::bad_request("no namespace on request"));
            }
            review.status = Some(rules(core.authorizer.rules(user)));
            written(&review)
        }
    }
}

fn who(user: &User) -> UserInfo {
    let User { name, uid, groups, extra } = user.clone();
    let present = |text: String| (!text.is_empty()).then_some(text);
    UserInfo {
        username: present(name),
        uid: present(uid),
        groups: (!groups.is_empty()).then_some(groups),
        extra: (!extra.is_empty()).then_some(extra),
    }
}

fn access(
    core: &Core,
    user: &User,
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
) -> Result<SubjectAccessReviewStatus, Status> {
    let text = |field: &'_ Option<String>| field.clone().unwrap_or_default();
    let (verb, rest) = match (resource, path) {
        (Some(asked), None) => {
            let ResourceAttributes { verb, group, resource, subresource, namespace, name, .. } = asked;
            (text(verb), [group, resource, subresource, namespace, name].map(text))
        }
        (None, Some(asked)) => (text(&asked.verb), Default::default()),
        (Some(_), Some(_)) | (None, None) => {
            let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(Status::new(422, "Invalid", message));
        }
    };
    let [group, resource, subresource, namespace, name] = &rest;
    let path = path.map(|asked| text(&asked.path)).unwrap_or_default();
    let attributes = Attributes { verb: &verb, group, resource, subresource, namespace, name, path: &path };
    Ok(match core.authorizer.authorize(user, &attributes) {
        Ok(()) => SubjectAccessReviewStatus { allowed: true, ..Default::default() },
        Err(why) => SubjectAccessReviewStatus { reason: (!why.is_empty()).then_some(why), ..Default::default() },
    })
}

fn rules(Rules { resources, paths }: Rules) -> SubjectRulesReviewStatus {
    let all = || vec!["*".to_owned()];
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let everything =
        ResourceRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), ..Default::default() };
    let rule = |(verbs, paths): &(&[&str], &[&str])| NonResourceRule {
        verbs: owned(verbs),
        non_resource_urls: Some(owned(paths)),
    };
    SubjectRulesReviewStatus {
        resource_rules: resources.then_some(everything).into_iter().collect(),
        non_resource_rules: paths.iter().map(rule).collect(),
        incomplete: false,
        evaluation_error: None,
    }
}

fn read<T: DeserializeOwned>(question: Value) -> Result<T, Status> {
    serde_json::from_value(question).map_err(|error| Status::bad_request(error.to_string()))
}

fn written(review: &impl serde::Serialize) -> Result<Value, Status> {
    serde_json::to_value(review).map_err(|error| Status::internal(error.to_string()))
}
