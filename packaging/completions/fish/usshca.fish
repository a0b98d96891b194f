# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_usshca_global_optspecs
    string join \n dir= passphrase-fd= h/help V/version
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
complete -c usshca -n "__fish_usshca_needs_command" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_needs_command" -s V -l version -d 'Print version'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "init" -d 'Make a working CA: keys, host certificate, config, policy, database'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "serve" -d 'Run the CA'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "check" -d 'Say whether `serve` would start, and what stands in its way'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "status" -d 'Say how the running CA is: what it listens on, who is connected, its signer, the last certificate and the last error'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "list" -d 'Certificates that were issued, and what was refused, newest first'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "show" -d 'One certificate, or one refusal'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "explain" -d 'Say which rule of the policy decides about somebody, why the ones before it do not, and what the certificate would be like'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "revoke" -d 'Revoke certificates, or undo that'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "revocations" -d 'What was revoked, when, by whom and why, newest first'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "krl" -d 'Write the KRL of all that is revoked'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "host" -d 'Host certificates'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "find" -d 'Certificates and refusals by whom, what, when and from where they were asked for, newest first'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "backup" -d 'Copy the inventory, as it is at one moment, while the CA runs or not'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "replay" -d 'Judge the recorded requests of users by another policy, and print what would have been different'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "key" -d 'Registered keys: their users can log in by them where policy takes that'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "publish" -d 'Write the feed for hosts to a folder: CA keys, KRL and known_hosts, signed by the feed key'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "feed" -d 'The feed, and the key that signs it'
complete -c usshca -n "__fish_usshca_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand init" -l name -d 'A host name by which people reach the CA; goes into its host certificate; may be repeated [default: this machine\'s host name]' -r
complete -c usshca -n "__fish_usshca_using_subcommand init" -l ca-name -d 'The CA\'s name, for what users read [default: the first host name]' -r
complete -c usshca -n "__fish_usshca_using_subcommand init" -l listen -d 'Address to listen on; may be repeated [default: port 22 on all addresses; with --dir port 2222]' -r
complete -c usshca -n "__fish_usshca_using_subcommand init" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand init" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand init" -l encrypt -d 'Encrypt the CA\'s keys by a passphrase, which is asked for here and at each start'
complete -c usshca -n "__fish_usshca_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand serve" -l ready-fd -d 'Write one newline to this descriptor when ready, and close it' -r
complete -c usshca -n "__fish_usshca_using_subcommand serve" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand serve" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand check" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand check" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand check" -l strict -d 'Exit status 1 if there is a warning'
complete -c usshca -n "__fish_usshca_using_subcommand check" -l json -d 'JSON: one object with what is good, the warnings, and the error, if there is one'
complete -c usshca -n "__fish_usshca_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand status" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand status" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand status" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand list" -s n -l limit -d 'At most so many, newest first' -r
complete -c usshca -n "__fish_usshca_using_subcommand list" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand list" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand list" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand list" -l csv -d 'CSV, with a head line'
complete -c usshca -n "__fish_usshca_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand show" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand show" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand show" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l from -d 'Where the request comes from' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l at -d 'When, in UTC, as 2026-01-31T12:00:00Z [default: now]' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l group -d 'Suppose that the account is in this group, and in no other that is not named; may be repeated [default: the groups it has on this machine]' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l auth -d 'How it was authenticated: pam, publickey, publickey+pam or none [default: as the rule demands]' -r -f -a "pam\t''
publickey\t''
publickey+pam\t''
none\t''"
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l mode -d 'Who makes the key: inject (the CA) or client-key [default: the CA, if the rule allows it]' -r -f -a "inject\t''
client-key\t''"
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l key-type -d 'Of the key: ed25519, ecdsa, rsa, ed25519-sk or ecdsa-sk [default: the first that the rule allows, and the CA makes]' -r -f -a "ed25519\t''
ecdsa\t''
rsa\t''
ed25519-sk\t''
ecdsa-sk\t''"
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l for -d 'For how long it is asked for: seconds, or a number with s, m, h, d or w behind it [default: as the rule says]' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l principal -d 'A principal that is asked for; may be repeated [default: all that the rule gives]' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l reason -d 'The reason that is given, \'\' for none [default: one, if the rule demands it]' -r
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand explain" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
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
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand revocations" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand revocations" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand revocations" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand revocations" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand krl" -s o -l out -d 'Put it in place here, in one step [default: standard output]' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand krl" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand krl" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand krl" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -f -a "sign" -d 'Sign a host\'s public key, and enter the host'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -f -a "token" -d 'Make a token by which one new host gets its certificates, once, with nobody\'s help'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -f -a "tokens" -d 'Tokens that can still be used, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -f -a "list" -d 'The hosts, by name'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -f -a "show" -d 'One host'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -f -a "remove" -d 'Take a host out: its certificates are revoked, and it gets no more'
complete -c usshca -n "__fish_usshca_using_subcommand host; and not __fish_seen_subcommand_from sign token tokens list show remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -s n -l name -d 'A name of the host, its own first; may be repeated; wildcards only behind it, and as far as the policy names them' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -l validity -d 'For how long: seconds, or a number with s, m, h, d or w behind it [default: as the policy says, host_validity_seconds]' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -s o -l out -d 'Where to put the certificate [default: beside the key, as …-cert.pub]; `-` is standard output' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -l take-key -d 'Take the key away from the host that has it'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from sign" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from token" -l for -d 'For how long it can be used: seconds, or a number with s, m, h, d or w behind it; a week at most' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from token" -l revoke -d 'Make a token useless, by its number (`usshca host tokens`)' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from token" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from token" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from token" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from tokens" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from tokens" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from tokens" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from tokens" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from list" -l expiring -d 'Only those of which a certificate ends within this time, or has ended: seconds, or a number with s, m, h, d or w behind it; exit status 1 if there is none' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from list" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from list" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from list" -l removed -d 'Those that were removed, too'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from list" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from list" -l csv -d 'CSV (RFC 4180), with a line of names first; times are seconds since the epoch'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from show" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from show" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from show" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from remove" -l reason -d 'Why, for the inventory' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from remove" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from remove" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from remove" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from help" -f -a "sign" -d 'Sign a host\'s public key, and enter the host'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from help" -f -a "token" -d 'Make a token by which one new host gets its certificates, once, with nobody\'s help'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from help" -f -a "tokens" -d 'Tokens that can still be used, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from help" -f -a "list" -d 'The hosts, by name'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from help" -f -a "show" -d 'One host'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Take a host out: its certificates are revoked, and it gets no more'
complete -c usshca -n "__fish_usshca_using_subcommand host; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand find" -l user -d 'Of this user' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l key -d 'For this key, or by somebody who had logged in with it: a file with the public key, or its fingerprint SHA256:…' -r
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
complete -c usshca -n "__fish_usshca_using_subcommand find" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand find" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand find" -l csv -d 'CSV, with a head line'
complete -c usshca -n "__fish_usshca_using_subcommand find" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand backup" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand backup" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand backup" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand backup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand replay" -l policy -d 'The other policy' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand replay" -l since -d 'Requests of how long ago at most: seconds, or a number with s, m, h, d or w behind it' -r
complete -c usshca -n "__fish_usshca_using_subcommand replay" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand replay" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand replay" -l json -d 'JSON, one object a line, and a last one with the counts'
complete -c usshca -n "__fish_usshca_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -f -a "register" -d 'Register a user\'s key'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -f -a "list" -d 'The keys that are registered, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -f -a "remove" -d 'End a key\'s registration; certificates that were issued by it stay good'
complete -c usshca -n "__fish_usshca_using_subcommand key; and not __fish_seen_subcommand_from register list remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from register" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from register" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from register" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from register" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from list" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from list" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from list" -l json -d 'JSON, one object a line'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from remove" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from remove" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from remove" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "register" -d 'Register a user\'s key'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "list" -d 'The keys that are registered, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "remove" -d 'End a key\'s registration; certificates that were issued by it stay good'
complete -c usshca -n "__fish_usshca_using_subcommand key; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand publish" -l valid-for -d 'For how long it is valid: seconds, or a number with s, m, h, d or w behind it [default: publish_valid_seconds of the configuration]' -r
complete -c usshca -n "__fish_usshca_using_subcommand publish" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand publish" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand publish" -l unsigned -d 'Write feed.unsigned, for `usshca feed sign` where the feed key is; the feed in the folder stays as it is'
complete -c usshca -n "__fish_usshca_using_subcommand publish" -s q -l quiet -d 'Say nothing of success'
complete -c usshca -n "__fish_usshca_using_subcommand publish" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand publish" -l by-daemon -d 'Of `usshca serve`: a draft if the feed key is elsewhere, and a line for the log, whatever comes of it, on descriptor 3'
complete -c usshca -n "__fish_usshca_using_subcommand publish" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and not __fish_seen_subcommand_from show verify sign key help" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand feed; and not __fish_seen_subcommand_from show verify sign key help" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand feed; and not __fish_seen_subcommand_from show verify sign key help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and not __fish_seen_subcommand_from show verify sign key help" -f -a "show" -d 'What a feed says of itself; whose it is, is not looked at'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and not __fish_seen_subcommand_from show verify sign key help" -f -a "verify" -d 'Judge a feed as a host does'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and not __fish_seen_subcommand_from show verify sign key help" -f -a "sign" -d 'Sign feed.unsigned in a folder with the feed key, away from the CA'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and not __fish_seen_subcommand_from show verify sign key help" -f -a "key" -d 'The feed key'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and not __fish_seen_subcommand_from show verify sign key help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from show" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from show" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from show" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from verify" -l key -d 'The feed key that is trusted, or an earlier one' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from verify" -l min-version -d 'Refuse a version below this one' -r
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from verify" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from verify" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from verify" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from sign" -l key -d 'The feed key: a private key in OpenSSH\'s format, encrypted or not' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from sign" -l successor -d 'Hand over to this key: it signs from the next version on' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from sign" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from sign" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from sign" -l json -d 'JSON'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from sign" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from key" -l dir -d 'Config and state all under this folder, instead of /etc/usshca and /var/lib/usshca' -r -F
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from key" -l passphrase-fd -d 'Read the passphrase of encrypted CA keys from this descriptor (0: standard input), to its end; one a line, each is tried' -r
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from key" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from key" -f -a "show" -d 'The feed key, and where it is held'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from key" -f -a "rotate" -d 'Take another feed key, which the present one names as its successor; the first one, if there is none'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from key" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from help" -f -a "show" -d 'What a feed says of itself; whose it is, is not looked at'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Judge a feed as a host does'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from help" -f -a "sign" -d 'Sign feed.unsigned in a folder with the feed key, away from the CA'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from help" -f -a "key" -d 'The feed key'
complete -c usshca -n "__fish_usshca_using_subcommand feed; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "init" -d 'Make a working CA: keys, host certificate, config, policy, database'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "serve" -d 'Run the CA'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "check" -d 'Say whether `serve` would start, and what stands in its way'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "status" -d 'Say how the running CA is: what it listens on, who is connected, its signer, the last certificate and the last error'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "list" -d 'Certificates that were issued, and what was refused, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "show" -d 'One certificate, or one refusal'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "explain" -d 'Say which rule of the policy decides about somebody, why the ones before it do not, and what the certificate would be like'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "revoke" -d 'Revoke certificates, or undo that'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "revocations" -d 'What was revoked, when, by whom and why, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "krl" -d 'Write the KRL of all that is revoked'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "host" -d 'Host certificates'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "find" -d 'Certificates and refusals by whom, what, when and from where they were asked for, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "backup" -d 'Copy the inventory, as it is at one moment, while the CA runs or not'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "replay" -d 'Judge the recorded requests of users by another policy, and print what would have been different'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "key" -d 'Registered keys: their users can log in by them where policy takes that'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "publish" -d 'Write the feed for hosts to a folder: CA keys, KRL and known_hosts, signed by the feed key'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "feed" -d 'The feed, and the key that signs it'
complete -c usshca -n "__fish_usshca_using_subcommand help; and not __fish_seen_subcommand_from init serve check status list show explain revoke revocations krl host find backup replay key publish feed help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from host" -f -a "sign" -d 'Sign a host\'s public key, and enter the host'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from host" -f -a "token" -d 'Make a token by which one new host gets its certificates, once, with nobody\'s help'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from host" -f -a "tokens" -d 'Tokens that can still be used, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from host" -f -a "list" -d 'The hosts, by name'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from host" -f -a "show" -d 'One host'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from host" -f -a "remove" -d 'Take a host out: its certificates are revoked, and it gets no more'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from key" -f -a "register" -d 'Register a user\'s key'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from key" -f -a "list" -d 'The keys that are registered, newest first'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from key" -f -a "remove" -d 'End a key\'s registration; certificates that were issued by it stay good'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from feed" -f -a "show" -d 'What a feed says of itself; whose it is, is not looked at'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from feed" -f -a "verify" -d 'Judge a feed as a host does'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from feed" -f -a "sign" -d 'Sign feed.unsigned in a folder with the feed key, away from the CA'
complete -c usshca -n "__fish_usshca_using_subcommand help; and __fish_seen_subcommand_from feed" -f -a "key" -d 'The feed key'
