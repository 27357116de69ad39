//! One request, from its path to its answer.
//!
//! ```text
//! request ─▶ who asks ─▶ what of ─▶ may they ─▶ their turn ─▶ body ─▶ verb ─▶ answer
//!             401         404        403         429          4xx
//! ```

use crate::accept::{self, Form};
use crate::auth::{Attributes, ConnectionInfo, Peer, User, forbidden};
use crate::core::Core;
use crate::delete::{self, DeleteOptions, Deleted, Propagation};
use crate::extension::{Asked, Told};
use crate::fence::Fence;
use crate::list::{Page, find};
use crate::query::{ListOptions, Query};
use crate::reply::{Body, Reply};
use crate::route::{self, Route, Target};
use crate::stored::meta_text;
use crate::update::Edit;
use crate::{discovery, fairness, health, model, openapi, review, table};
use api::resource::Subresource;
use api::{Resource, Status};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use serde_json::{Value, json};
use std::sync::Arc;

/// A request, read.
struct Call<'a> {
    method: &'a Method,
    path: &'a str,
    query: Query,
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

/// Answers a request whose body has been read.
pub async fn handle(core: &Arc<Core>, peer: &Peer, request: Request<Bytes>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let call = Call { method: &parts.method, path, query, headers: &parts.headers, body: &body };
    let route = route::parse(path);
    let verb = verb(&call, &route);
    let reply = answer(core, peer, &call, &route, verb).await.unwrap_or_else(Reply::from);
    core.counters.answered(verb, counted_as(&route), reply.code);
    reply.encoded(accept::encoding(&call.header(header::ACCEPT))).into_response()
}

fn counted_as(route: &Route) -> String {
    match route {
        Route::Target(Target { resource, subresource: Some(below), .. }) => {
            format!("{}/{}", resource.qualified(), below.name())
        }
        Route::Target(target) => target.resource.qualified(),
        Route::Review(review) => review.qualified(),
        Route::Health { endpoint, .. } => (*endpoint).to_owned(),
        Route::Root
        | Route::CoreVersions
        | Route::Groups
        | Route::Group(_)
        | Route::Resources { .. }
        | Route::Version
        | Route::OpenApiIndex
        | Route::OpenApiGroup { .. } => "discovery".to_owned(),
        Route::Nowhere => String::new(),
    }
}

/// The verb by which a request is authorized; empty if the method means nothing there.
fn verb(call: &Call<'_>, route: &Route) -> &'static str {
    if let Route::Review(_) = route {
        return if *call.method == Method::POST { "create" } else { "" };
    }
    let Route::Target(target) = route else {
        return match *call.method {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
    };
    let collection = target.name.is_empty();
    let watch = target.legacy_watch || (collection && call.query.flag("watch"));
    match (call.method.as_str(), target.subresource) {
        ("GET", None) if watch => "watch",
        ("GET", None) if collection => "list",
        ("GET", None | Some(Subresource::Status | Subresource::Scale)) => "get",
        ("POST", None) if collection && (!target.resource.namespaced || !target.namespace.is_empty()) => "create",
        ("POST", Some(Subresource::Binding | Subresource::Eviction)) => "create",
        ("PUT", None) if !collection => "update",
        ("PUT", Some(Subresource::Status | Subresource::Scale | Subresource::Finalize)) => "update",
        ("PATCH", None) if !collection => "patch",
        ("PATCH", Some(Subresource::Status | Subresource::Scale)) => "patch",
        ("DELETE", None) if !collection => "delete",
        ("DELETE", None) if discovery::has_deletecollection(target.resource) => "deletecollection",
        _ => "",
    }
}

async fn answer(
    core: &Arc<Core>,
    peer: &Peer,
    call: &Call<'_>,
    route: &Route,
    verb: &'static str,
) -> Result<Reply, Status> {
    let Peer { address, subject } = peer;
    let connection =
        ConnectionInfo { peer: *address, headers: call.headers, path: call.path, subject: subject.as_deref() };
    let user = core.authenticator.authenticate(&connection)?;
    let mut attributes = Attributes { verb, path: call.path, ..Attributes::default() };
    if let Route::Target(target) = route {
        attributes.group = target.resource.group;
        attributes.resource = target.resource.plural;
        attributes.subresource = target.subresource.map_or("", Subresource::name);
        attributes.namespace = &target.namespace;
        attributes.name = &target.name;
    }
    if let Route::Review(review) = route {
        (attributes.group, attributes.resource) = (review.group, review.plural);
    }
    if let Err(why) = core.authorizer.authorize(&user, &attributes) {
        mark::sometimes!("request forbidden");
        return Err(forbidden(&user, &attributes, &why));
    }
    // Until the answer is made; that of a watch is only its beginning.
    let _seat = match fairness::classify(&user, &attributes) {
        None => None,
        Some((level, flow)) => Some(core.fairness.enter(level, flow).await?),
    };
    if matches!(route, Route::Nowhere) {
        let asked = Asked { method: call.method.as_str(), path: call.path, user: &user, body: call.body };
        if let Some(answer) = core.extension.get().and_then(|extension| extension.answer(asked)) {
            let Told { content_type, body } = answer.await?;
            return Ok(Reply::document(200, content_type, body));
        }
        return Err(Status::new(404, "NotFound", "the server could not find the requested resource"));
    }
    let reads = !matches!(route, Route::Target(_) | Route::Review(_));
    if verb.is_empty() || (reads && *call.method != Method::GET) {
        let message = "the server does not allow this method on the requested resource";
        return Err(Status::new(405, "MethodNotAllowed", message));
    }
    let accept = call.header(header::ACCEPT);
    let none_match = call.header(header::IF_NONE_MATCH);
    match route {
        Route::Root => Ok(discovery::paths()),
        Route::CoreVersions => discovery::core_versions(&accept, &none_match),
        Route::Groups => discovery::groups(&accept, &none_match),
        Route::Group(group) => discovery::group(group),
        Route::Resources { group, version } => discovery::resources(group, version),
        Route::Version => Ok(discovery::version(&core.config.build)),
        Route::Health { endpoint, check } => Ok(health::answer(core, endpoint, check, &call.query)),
        Route::OpenApiIndex => Ok(openapi::index()),
        Route::OpenApiGroup { group, version } => openapi::group(group, version, &none_match),
        Route::Target(target) => call.on(core, target, verb).await,
        Route::Review(review) => call.review(core, &user, review),
        Route::Nowhere => Err(Status::internal("nothing is there")),
    }
}

impl Call<'_> {
    fn header(&self, name: header::HeaderName) -> String {
        let texts: Vec<&str> = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        texts.join(",")
    }

    fn form(&self) -> Result<Form, Status> {
        accept::form(&self.header(header::ACCEPT), true)?.including(self.query.text("includeObject"))
    }

    fn fence(&self) -> Result<Option<Fence>, Status> {
        Fence::of(self.headers)
    }

    async fn on(&self, core: &Arc<Core>, target: &Target, verb: &str) -> Result<Reply, Status> {
        match (verb, target.subresource) {
            ("get", Some(Subresource::Scale)) => self.get_scale(core, target).await,
            ("get", _) => {
                let version = crate::query::AskedVersion::parse(self.query.text("resourceVersion"))?;
                core.get(target, version, self.form()?).await
            }
            ("list", _) => {
                let options = ListOptions::parse(&self.query, false)?;
                core.list(target, &options, self.form()?).await
            }
            ("watch", _) => self.watch(core, target).await,
            ("create", None) => self.create(core, target).await,
            ("create", Some(below)) => self.create_below(core, target, below).await,
            ("update", _) => self.update(core, target).await,
            ("patch", _) => self.patch(core, target).await,
            ("delete", _) => self.delete(core, target).await,
            ("deletecollection", _) => self.delete_collection(core, target).await,
            _ => Err(Status::internal(format!("nobody does {verb}"))),
        }
    }

    fn review(&self, core: &Core, user: &User, review: &'static Resource) -> Result<Reply, Status> {
        self.query.dry_run("CreateOptions")?;
        let (question, warnings) = self.decode(&model::Expected::object(review), "CreateOptions")?;
        let answer = review::answer(core, user, review, question)?;
        Ok(Reply::value(201, &answer).with_warnings(&warnings))
    }

    async fn watch(&self, core: &Arc<Core>, target: &Target) -> Result<Reply, Status> {
        let mut options = ListOptions::parse(&self.query, target.legacy_watch)?;
        if !target.name.is_empty() {
            options.fields = api::selector::Fields::equal("metadata.name", &target.name);
        }
        let form = accept::stream_form(&self.header(header::ACCEPT))?.including(self.query.text("includeObject"))?;
        core.watch(target, &options, form).await
    }

    async fn get_scale(&self, core: &Arc<Core>, target: &Target) -> Result<Reply, Status> {
        let version = crate::query::AskedVersion::parse(self.query.text("resourceVersion"))?;
        let tree = core.tree_for(version).await?;
        let stored = find(&tree, target).ok_or_else(|| Status::not_found(target.resource, &target.name))?;
        Ok(Reply::value(200, &model::scale(target.resource, &stored.decode()?)?))
    }

    async fn create(&self, core: &Arc<Core>, target: &Target) -> Result<Reply, Status> {
        let form = self.form()?;
        let dry_run = self.query.dry_run("CreateOptions")?;
        let expected = model::Expected::object(target.resource);
        let (object, warnings) = self.decode(&expected, "CreateOptions")?;
        let stored = core.create(target, object, dry_run, self.fence()?.as_ref()).await?;
        Ok(core.reply(201, &stored, form)?.with_warnings(&warnings))
    }

    async fn create_below(&self, core: &Arc<Core>, target: &Target, below: Subresource) -> Result<Reply, Status> {
        let dry_run = self.query.dry_run("CreateOptions")?;
        let fence = self.fence()?;
        match below {
            Subresource::Binding => {
                let (binding, _) = self.decode(&model::Expected::BINDING, "CreateOptions")?;
                core.bind(target, &binding, dry_run, fence.as_ref()).await?;
            }
            Subresource::Eviction => {
                let (eviction, _) = self.decode(&model::Expected::EVICTION, "CreateOptions")?;
                core.evict(target, &eviction, dry_run, fence.as_ref()).await?;
            }
            Subresource::Status | Subresource::Scale | Subresource::Finalize => {
                return Err(Status::internal("nothing is created there"));
            }
        }
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(Reply::value(201, &body))
    }

    async fn update(&self, core: &Arc<Core>, target: &Target) -> Result<Reply, Status> {
        let form = self.form()?;
        let dry_run = self.query.dry_run("UpdateOptions")?;
        let scale = target.subresource == Some(Subresource::Scale);
        let expected = if scale { model::Expected::SCALE } else { model::Expected::object(target.resource) };
        let (object, mut warnings) = self.decode(&expected, "UpdateOptions")?;
        let edited = core.edit(target, Edit::Replace(object), dry_run, self.fence()?.as_ref()).await?;
        warnings.extend(edited.warnings);
        let code = if edited.created { 201 } else { 200 };
        let reply = if scale {
            Reply::value(code, &model::scale(target.resource, &edited.stored.decode()?)?)
        } else {
            core.reply(code, &edited.stored, form)?
        };
        Ok(reply.with_warnings(&warnings))
    }

    async fn patch(&self, core: &Arc<Core>, target: &Target) -> Result<Reply, Status> {
        let form = self.form()?;
        let dry_run = self.query.dry_run("PatchOptions")?;
        let validation = self.query.field_validation("PatchOptions")?;
        let patch_form = accept::patch_form(&self.header(header::CONTENT_TYPE))?;
        let (patch, mut warnings) = model::decode_patch(self.body, validation)?;
        let edit = Edit::Patch { form: patch_form, patch, validation };
        let edited = core.edit(target, edit, dry_run, self.fence()?.as_ref()).await?;
        warnings.extend(edited.warnings);
        let reply = if target.subresource == Some(Subresource::Scale) {
            Reply::value(200, &model::scale(target.resource, &edited.stored.decode()?)?)
        } else {
            core.reply(200, &edited.stored, form)?
        };
        Ok(reply.with_warnings(&warnings))
    }

    async fn delete(&self, core: &Arc<Core>, target: &Target) -> Result<Reply, Status> {
        let form = self.form()?;
        let options = self.delete_options()?;
        match core.delete(target, &options, self.fence()?.as_ref()).await? {
            Deleted::Gone(stored) if delete::returns_object(target.resource) => core.reply(200, &stored, form),
            Deleted::Gone(stored) => Ok(Reply::value(200, &delete::gone(&stored)?)),
            Deleted::Later(stored) => {
                let accepted =
                    options.orphan_dependents == Some(false) || options.propagation == Some(Propagation::Foreground);
                core.reply(if accepted { 202 } else { 200 }, &stored, form)
            }
        }
    }

    async fn delete_collection(&self, core: &Arc<Core>, target: &Target) -> Result<Reply, Status> {
        let form = self.form()?;
        let options = self.delete_options()?;
        let list = ListOptions::parse(&self.query, false)?;
        let items = core.delete_collection(target, &list, &options, self.fence()?.as_ref()).await?;
        let revision = core.store.latest().revision();
        let page = Page { items, revision, token: String::new(), remaining: None };
        table::reply_list(target.resource, &page, form, core.now())
    }

    fn delete_options(&self) -> Result<DeleteOptions, Status> {
        if self.body.is_empty() {
            return DeleteOptions::read(None, &self.query);
        }
        let form = accept::body_form(&self.header(header::CONTENT_TYPE))?;
        let options = model::decode_delete_options(form, self.body)?;
        DeleteOptions::read(Some(&options), &self.query)
    }

    fn decode(&self, expected: &model::Expected, options: &str) -> Result<(Value, Vec<String>), Status> {
        let validation = self.query.field_validation(options)?;
        let form = accept::body_form(&self.header(header::CONTENT_TYPE))?;
        model::decode(form, self.body, expected, validation)
    }
}

impl Core {
    /// Binds a pod to a node.
    ///
    /// # Errors
    /// What the client is told.
    async fn bind(&self, target: &Target, binding: &Value, dry_run: bool, fence: Option<&Fence>) -> Result<(), Status> {
        use crate::change::Change;
        use crate::core::Decision;
        let name = meta_text(binding, "name");
        if !name.is_empty() && name != target.name {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        let pods = target.resource;
        let decide = |tree: &store::mvcc::Tree| {
            let stored = find(tree, target).ok_or_else(|| Status::not_found(pods, &target.name))?;
            let bound = model::bind(pods, &stored.decode()?, binding, self.now())?;
            let mut change = Change::new();
            let key = crate::keys::object(pods, &target.namespace, &target.name);
            change.expect(key.clone(), stored.revision);
            change.put(key, crate::stored::encode(pods, &bound));
            Ok(if dry_run { Decision::Keep(()) } else { Decision::Write(change, ()) })
        };
        self.transact(fence, (pods, &target.name), decide).await.map(|_| ())
    }
}
