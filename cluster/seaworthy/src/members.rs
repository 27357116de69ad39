//! From `--member` arguments to a member's configuration.

use crate::args::StoreArgs;
use std::collections::BTreeMap;
use store::server::{MemberAddress, MemberConfig};

/// The configuration that the arguments describe.
///
/// # Errors
/// What is wrong with them, in one sentence.
pub fn member_config(args: StoreArgs) -> Result<MemberConfig, String> {
    let members = parse(&args.members)?;
    let Some(own) = members.iter().find(|member| member.name == args.name) else {
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        return Err(format!("--name {} is none of the members: {}", args.name, names.join(", ")));
    };
    let id = own.id;
    let addresses: BTreeMap<u64, MemberAddress> =
        members.into_iter().map(|member| (member.id, member.address)).collect();
    let mut config = MemberConfig::new(&args.name, id, addresses, &args.data_dir);
    config.listen_peer = args.listen_peer.or(config.listen_peer);
    config.listen_client = args.listen_client.or(config.listen_client);
    config.snapshot_entries = args.snapshot_entries;
    config.quota_bytes = args.quota_bytes;
    config.format = args.store_format;
    config.validate().map_err(|error| error.to_string())?;
    Ok(config)
}

#[derive(Debug)]
struct Named {
    id: u64,
    name: String,
    address: MemberAddress,
}

/// The members in order of their arguments; ids and names are distinct.
fn parse(arguments: &[String]) -> Result<Vec<Named>, String> {
    let mut members: Vec<Named> = Vec::new();
    let numbered = arguments.iter().filter(|argument| explicit_id(argument).is_some()).count();
    if numbered != 0 && numbered != arguments.len() {
        return Err("some --member arguments begin with an id and some do not; number all or none".to_owned());
    }
    for (position, argument) in (1..).zip(arguments) {
        let member = parse_one(argument, position)?;
        if members.iter().any(|other| other.name == member.name) {
            return Err(format!("two members are called {}", member.name));
        }
        if members.iter().any(|other| other.id == member.id) {
            return Err(format!("two members have id {}", member.id));
        }
        members.push(member);
    }
    Ok(members)
}

/// What is before the first colon of what is before the equals sign.
fn explicit_id(argument: &str) -> Option<&str> {
    argument.split_once('=')?.0.split_once(':').map(|(id, _)| id)
}

fn parse_one(argument: &str, position: u64) -> Result<Named, String> {
    let form = || format!("--member {argument} is not of the form [ID:]NAME=HOST:PORT,HOST:PORT");
    let (who, addresses) = argument.split_once('=').ok_or_else(form)?;
    let (id, name) = match who.split_once(':') {
        Some((id, name)) => (id.parse().ok().filter(|id| *id > 0).ok_or_else(form)?, name),
        None => (position, who),
    };
    let (peer, client) = addresses.split_once(',').ok_or_else(form)?;
    if name.is_empty() || client.contains(',') {
        return Err(form());
    }
    Ok(Named { id, name: name.to_owned(), address: MemberAddress { peer: peer.to_owned(), client: client.to_owned() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The config's id and members, or what is wrong, for member `s2` of `members`.
    fn check(members: &[&str]) -> String {
        let args = StoreArgs {
            name: "s2".to_owned(),
            data_dir: "data".to_owned(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            listen_peer: None,
            listen_client: None,
            snapshot_entries: 1,
            quota_bytes: 1,
            store_format: store::Format::FIRST,
        };
        match member_config(args) {
            Ok(config) => {
                let ids: Vec<String> = config.members.iter().map(|(id, at)| format!("{id} {}", at.peer)).collect();
                let listen = config.listen_client.expect("members of this test listen");
                format!("{} at {listen} of [{}]", config.id, ids.join(", "))
            }
            Err(error) => error,
        }
    }

    #[test]
    fn members_are_numbered_by_position_or_as_they_say() {
        assert_eq!(check(&["s1=a:1,a:2", "s2=b:1,b:2"]), "2 at b:2 of [1 a:1, 2 b:1]");
        assert_eq!(check(&["7:s1=a:1,a:2", "3:s2=[::1]:1,[::1]:2"]), "3 at [::1]:2 of [3 [::1]:1, 7 a:1]");
    }

    #[test]
    fn wrong_members_are_refused_in_one_sentence() {
        assert_eq!(check(&["s1=a:1,a:2"]), "--name s2 is none of the members: s1");
        assert_eq!(check(&["s2=b:1"]), "--member s2=b:1 is not of the form [ID:]NAME=HOST:PORT,HOST:PORT");
        assert_eq!(check(&["s2"]), "--member s2 is not of the form [ID:]NAME=HOST:PORT,HOST:PORT");
        assert_eq!(check(&["x:s2=b:1,b:2"]), "--member x:s2=b:1,b:2 is not of the form [ID:]NAME=HOST:PORT,HOST:PORT");
        assert_eq!(
            check(&["1:s1=a:1,a:2", "s2=b:1,b:2"]),
            "some --member arguments begin with an id and some do not; number all or none"
        );
        assert_eq!(check(&["s2=a:1,a:2", "s2=b:1,b:2"]), "two members are called s2");
        assert_eq!(check(&["4:s1=a:1,a:2", "4:s2=b:1,b:2"]), "two members have id 4");
        assert_eq!(check(&["s2=b,b:2"]), "member 1: 'b' is no address of the form host:port");
    }
}
