# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_usshca_global_optspecs
    string join \n dir= h/help V/version
end

function __fish_usshca_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_usshca_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_usshca_using_subcommand
    set -l cmd (__fish_usshca_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c usshca -n "__fish_usshca_needs_command" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_needs_command" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_needs_command" -s V -l version -d 'Print version'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "init" -d 'Make a working CA: keys, host certificate, config, policy, database'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "serve" -d 'Run the CA'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "check" -d 'Say whether `serve` would start, and what stands in its way'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "status" -d 'Say how the running CA is: what it listens on, who is connected, its signer, the last certificate and the last error'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "list" -d 'Certificates that were issued, newest first'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "show" -d 'One certificate'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "explain" -d 'Say which rule of the policy decides about somebody, why the ones before it do not, and what the certificate would be like'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "revoke" -d 'Revoke certificates, or undo that'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "revocations" -d 'What was revoked, when, by whom and why, newest first'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "krl" -d 'Write the KRL of all that is revoked'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "host" -d 'Host certificates'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "find" -d 'Certificates and refusals by whom, what, when and from where they were asked for, newest first'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "backup" -d 'Copy the inventory, as it is at one moment, while the CA runs or not'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "replay" -d 'Judge the recorded requests of users by another policy, and print what would have been different'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "key" -d 'Registered keys: their users can log in by them where policy takes that'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand init" -l name -d 'A host name by which people reach the CA; goes into its host certificate; may be repeated [default: this machine\'s host name]' -r
complete -c usshca -n "__fish_usshca_using_subcommand init" -l ca-name -d 'The CA\'s name, for what users read [default: the first host name]' -r
complete -c usshca -n "__fish_usshca_using_subcommand init" -l listen -d 'Address to listen on; may be repeated [default: port 22 on all addresses; with --dir port 2222]' -r
complete -c usshca -n "__fish_usshca_using_subcommand init" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand init" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand serve" -l ready-fd -d 'Write one newline to this descriptor when ready, and close it' -r
complete -c usshca -n "__fish_usshca_using_subcommand serve" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand check" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand check" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand status" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand status" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand list" -s n -l limit -d 'At most so many, newest first' -r
complete -c usshca -n "__fish_usshca_using_subcommand list" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand list" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand list" -l csv -d 'CSV, with a head line'
complete -c usshca -n "__fish_usshca_using_subcommand list" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand show" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand show" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand show" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l from -d 'Where the request comes from' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l at -d 'When, in UTC, as 2026-01-31T12:00:00Z [default: now]' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l group -d 'Suppose that the account is in this group, and in no other that is not named; may be repeated [default: the groups it has on this machine]' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l auth -d 'How it was authenticated: pam, publickey, publickey+pam or none' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l mode -d 'Who makes the key: inject (the CA) or client-key' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l key-type -d 'Of the key: ed25519, ecdsa, rsa, ed25519-sk or ecdsa-sk' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l for -d 'For how long it is asked for: seconds, or a number with s, m, h, d or w behind it [default: as the rule says]' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l principal -d 'A principal that is asked for; may be repeated [default: all that the rule gives]' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l reason -d 'The reason that is given' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l user -d 'All certificates that this user was given so far; the next one is good again' -r
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l host -d 'All certificates so far of a host that is known by this name' -r
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l key -d 'A key, in any certificate: a file with the public key, or its fingerprint SHA256:…' -r
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l key-id -d 'Every certificate with this key ID, those to come too: bars the user of this name until it is undone' -r
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l before -d 'All certificates issued before a time in UTC, as 2026-01-31T12:00:00Z' -r
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l ca -d 'A CA key: every certificate by it' -r -f -a "user\t'Users\''
host\t'Hosts\''"
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l undo -d 'Lift a revocation, by its number (`usshca revocations`)' -r
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l serials -d 'A range of serials, users\' and hosts\', in the inventory or not: what an inventory that was put back does not know (`usshca check` names it)' -r
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l of -d 'Of --before and --key-id: whose certificates' -r -f -a "user\t'Users\''
host\t'Hosts\''"
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l reason -d 'Why, for the inventory' -r
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand revocations" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand revocations" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand revocations" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand krl" -s o -l out -d 'Put it in place here, in one step [default: standard output]' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand krl" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand krl" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign help" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign help" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign help" -f -a "sign" -d 'Sign a host\'s public key'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -s n -l name -d 'A name of the host; may be repeated; no wildcards' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -l validity -d 'For how long: seconds, or a number with s, m, h, d or w behind it' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -s o -l out -d 'Where to put the certificate [default: beside the key, as …-cert.pub]; `-` is standard output' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from help" -f -a "sign" -d 'Sign a host\'s public key'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand find" -l user -d 'Of this user' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l key -d 'For this key: a file with the public key, or its fingerprint SHA256:…' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l serial -d 'With this serial' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l time -d 'Asked for from one time to before another, in UTC, as 2026-01-31T12:00:00Z..2026-02-01T00:00:00Z; either may be left out' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l principal -d 'That names this principal' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l host -d 'Of a host that is known by this name' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l from -d 'Asked for from this address (`admin`: by an administrator)' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l state -d 'What became of it' -r -f -a "reserved\t'A serial was given, and no more is known'
signed\t'Signed, and not known whether it was delivered'
delivered\t'The user has it'
undelivered\t'The user does not have it, or nobody knows'
refused\t'No certificate was made'
revoked\t'Revoked, whatever else'"
complete -c usshca -n "__fish_usshca_using_subcommand find" -l rule -d 'By this rule of the policy' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -s n -l limit -d 'At most so many, newest first' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand find" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand find" -l csv -d 'CSV, with a head line'
complete -c usshca -n "__fish_usshca_using_subcommand find" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand backup" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand backup" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand backup" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand replay" -l policy -d 'The other policy' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand replay" -l since -d 'Requests of how long ago at most: seconds, or a number with s, m, h, d or w behind it' -r
complete -c usshca -n "__fish_usshca_using_subcommand replay" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand replay" -l json -d 'JSON, one object a line, and a last one with the counts'
complete -c usshca -n "__fish_usshca_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -f -a "register" -d 'Register a user\'s key'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -f -a "list" -d 'The keys that are registered, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -f -a "remove" -d 'End a key\'s registration; certificates that were issued by it stay good'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from register" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from register" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from register" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from list" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from list" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from remove" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from remove" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "register" -d 'Register a user\'s key'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "list" -d 'The keys that are registered, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "remove" -d 'End a key\'s registration; certificates that were issued by it stay good'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "init" -d 'Make a working CA: keys, host certificate, config, policy, database'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "serve" -d 'Run the CA'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "check" -d 'Say whether `serve` would start, and what stands in its way'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "status" -d 'Say how the running CA is: what it listens on, who is connected, its signer, the last certificate and the last error'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "list" -d 'Certificates that were issued, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "show" -d 'One certificate'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "explain" -d 'Say which rule of the policy decides about somebody, why the ones before it do not, and what the certificate would be like'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "revoke" -d 'Revoke certificates, or undo that'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "revocations" -d 'What was revoked, when, by whom and why, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "krl" -d 'Write the KRL of all that is revoked'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "host" -d 'Host certificates'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "find" -d 'Certificates and refusals by whom, what, when and from where they were asked for, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "backup" -d 'Copy the inventory, as it is at one moment, while the CA runs or not'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "replay" -d 'Judge the recorded requests of users by another policy, and print what would have been different'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "key" -d 'Registered keys: their users can log in by them where policy takes that'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from host" -f -a "sign" -d 'Sign a host\'s public key'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from key" -f -a "register" -d 'Register a user\'s key'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from key" -f -a "list" -d 'The keys that are registered, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from key" -f -a "remove" -d 'End a key\'s registration; certificates that were issued by it stay good'
