//! The table, theme by theme.

mod authority;
mod ca_file;
mod fields;
mod key_types;
mod options;
mod principals;
mod principals_file;
mod revoked;
mod signatures;
mod time;

use crate::row::Row;

pub fn themes() -> Vec<(&'static str, Vec<Row>)> {
    vec![
        ("key types", key_types::types()),
        ("key sizes", key_types::sizes()),
        ("FIDO", key_types::fido()),
        ("time", time::rows()),
        ("principals", principals::rows()),
        ("critical options", options::critical()),
        ("source-address", options::source_address()),
        ("extensions", options::extensions()),
        ("fields", fields::rows()),
        ("layout", fields::layout()),
        ("CA key", authority::rows()),
        ("CA signature", signatures::rows()),
        ("CA file", ca_file::rows()),
        ("principals file", principals_file::rows()),
        ("KRL", revoked::krl_by_ssh_keygen()),
        ("KRL sections", revoked::krl_by_hand()),
        ("plain list", revoked::plain()),
    ]
}
