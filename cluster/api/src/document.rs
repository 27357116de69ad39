//! Objects as documents whose head is known: type and metadata first, then the rest, one field of which may be left out.
//! For stores that splice something in behind the head, and for requests that are about a part of an object.

use serde::ser::{Error, Impossible, Serialize, SerializeStruct, Serializer};

/// Appends an object as JSON: `{"apiVersion":...,"kind":...,"metadata":{...},` and then its other fields in their order, but
/// for the one named `without`.
///
/// # Errors
/// It is no struct with these fields, or has no form in JSON.
pub fn write<T: Serialize>(object: &T, without: &str, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    object.serialize(Document { without, out })
}

struct Document<'a> {
    without: &'a str,
    out: &'a mut Vec<u8>,
}

/// The parts of a document as they come.
struct Parts<'a> {
    without: &'a str,
    out: &'a mut Vec<u8>,
    api_version: Vec<u8>,
    kind: Vec<u8>,
    metadata: Vec<u8>,
    rest: Vec<u8>,
}

impl SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = serde_json::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Self::Error> {
        let part = match key {
            "apiVersion" => &mut self.api_version,
            "kind" => &mut self.kind,
            "metadata" => &mut self.metadata,
            _ if key == self.without => return Ok(()),
            _ => {
                self.rest.extend_from_slice(b",\"");
                self.rest.extend_from_slice(key.as_bytes());
                self.rest.extend_from_slice(b"\":");
                &mut self.rest
            }
        };
        serde_json::to_writer(part, value)
    }

    fn end(self) -> Result<(), Self::Error> {
        let Self { without: _, out, api_version, kind, metadata, rest } = self;
        out.reserve(metadata.len() + rest.len() + 128);
        for (name, part) in
            [(&b"{\"apiVersion\":"[..], api_version), (b",\"kind\":", kind), (b",\"metadata\":", metadata)]
        {
            out.extend_from_slice(name);
            out.extend_from_slice(&part);
        }
        out.extend_from_slice(&rest);
        out.push(b'}');
        Ok(())
    }
}

fn no_struct<T>() -> Result<T, serde_json::Error> {
    Err(serde_json::Error::custom("an object is a struct"))
}

impl<'a> Serializer for Document<'a> {
    type Ok = ();
    type Error = serde_json::Error;
    type SerializeSeq = Impossible<(), Self::Error>;
    type SerializeTuple = Impossible<(), Self::Error>;
    type SerializeTupleStruct = Impossible<(), Self::Error>;
    type SerializeTupleVariant = Impossible<(), Self::Error>;
    type SerializeMap = Impossible<(), Self::Error>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Impossible<(), Self::Error>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Self::Error> {
        let metadata = Vec::with_capacity(512);
        let rest = Vec::with_capacity(2048);
        Ok(Parts { without: self.without, out: self.out, api_version: Vec::new(), kind: Vec::new(), metadata, rest })
    }
    fn serialize_bool(self, _: bool) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_i8(self, _: i8) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_i16(self, _: i16) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_i32(self, _: i32) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_i64(self, _: i64) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_u8(self, _: u8) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_u16(self, _: u16) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_u32(self, _: u32) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_u64(self, _: u64) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_f32(self, _: f32) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_f64(self, _: f64) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_char(self, _: char) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_str(self, _: &str) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_none(self) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_unit(self) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Self::Error> {
        no_struct()
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Self::Error> {
        no_struct()
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Self::Error> {
        no_struct()
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Self::Error> {
        no_struct()
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Self::Error> {
        no_struct()
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Self::Error> {
        no_struct()
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Self::Error> {
        no_struct()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::v1::{ConfigMap, Pod, PodSpec, PodStatus};
    use expect_test::{Expect, expect};

    fn check<T: Serialize>(object: &T, without: &str, expected: Expect) {
        let mut out = Vec::new();
        write(object, without, &mut out).unwrap();
        expected.assert_eq(&String::from_utf8(out).unwrap());
    }

    #[test]
    fn the_head_comes_first_and_a_field_can_be_left_out() {
        let mut map = ConfigMap { data: Some([("a".to_owned(), "b".to_owned())].into()), ..ConfigMap::default() };
        map.metadata.name = Some("m".to_owned());
        check(
            &map,
            "",
            expect![[r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"a":"b"}}"#]],
        );
        let status = PodStatus { phase: Some("Running".to_owned()), ..PodStatus::default() };
        let pod = Pod { spec: Some(PodSpec::default()), status: Some(status), ..Pod::default() };
        let expected = expect![[r#"{"apiVersion":"v1","kind":"Pod","metadata":{},"status":{"phase":"Running"}}"#]];
        check(&pod, "spec", expected);
        assert!(write(&[1], "", &mut Vec::new()).is_err());
    }
}
