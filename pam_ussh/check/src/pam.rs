//! PAM stacks as libpam reads and runs them: bytes to lines and words (`line`), the control field (`code`, `control`), files to chains of modules (`stack`),
//! a chain for given results of its modules (`dispatch`), and for all results that they may have (`explore`).

pub mod code;
pub mod control;
pub mod dispatch;
pub mod explore;
pub mod line;
pub mod stack;
