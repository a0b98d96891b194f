//! What an inventory that was put back does not know.

use usshca_admin::desk::Link as _;
use usshca_ipc::admin::{Reply, Request};
use usshca_ipc::layout::Layout;

use super::utc;
use super::{Link, layout_flag, unexpected};
use crate::failure::Failure;

/// A warning for each range of serials that is unknown and not revoked, with the command that revokes it.
pub fn warnings(layout: &Layout, link: &Link) -> Result<Vec<String>, Failure> {
    let Reply::Lost(lost) = link.ask(&Request::Lost)? else {
        return Err(unexpected());
    };
    let open = lost.into_iter().filter(|lost| !lost.revoked);
    Ok(open
        .map(|lost| {
            format!(
                "an older inventory was put back ({}): certificates with the serials {first} to {last} may have been issued and are unknown here. Revoke what nobody can account for:\n  usshca{} revoke --serials {first}-{last} --reason \"lost with the inventory\"",
                utc(lost.noted),
                layout_flag(layout),
                first = lost.first,
                last = lost.last
            )
        })
        .collect())
}
