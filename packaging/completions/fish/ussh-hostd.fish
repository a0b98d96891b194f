# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ussh_hostd_global_optspecs
    string join \n config= h/help V/version
end

function __fish_ussh_hostd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ussh_hostd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ussh_hostd_using_subcommand
    set -l cmd (__fish_ussh_hostd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -s V -l version -d 'Print version'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "run" -d 'Watch the sessions (the daemon; stays in the foreground)'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "enroll" -d 'Get this host\'s certificates from the CA, by a token, and have sshd go by the CA'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "renew" -d 'Renew this host\'s certificates now (the daemon does it by itself at two thirds of their life)'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "sync" -d 'Take the CA keys and the revocation list from the feed, all or nothing'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "report" -d 'Tell of break-glass uses whoever does not know yet: terminals, the hook, the CA (the daemon does it by itself)'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "sessions" -d 'List the sessions'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "end" -d 'End a session: its terminals are told, its forwarded ports closed, its programs ended'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "check" -d 'Say whether the configuration is valid and what it names can be used, and what somebody must hear of: certificates of this host that run out, a stale feed, connections without a record, a daemon that does not run'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "status" -d 'Say how things stand: the daemon, this host\'s certificates, the CA keys, the revocation list, the feed'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand run" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand enroll" -l port -d 'Its SSH port' -r
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand enroll" -l token-file -d 'File with the token [default: asked for (and not shown), or read from standard input; never an argument, which everybody could read]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand enroll" -l name -d 'A name that the token must be for; may be repeated' -r
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand enroll" -l key -d 'Private host key to get a certificate for; may be repeated [default: /etc/ssh/ssh_host_ed25519_key and _ecdsa_key]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand enroll" -l known-hosts -d 'Know the CA by this known_hosts file and not by the token (OpenSSH before 8.5)' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand enroll" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand enroll" -l new-keys -d 'Make new host keys, of the RSA key as well: for a machine that is a copy of another one'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand enroll" -l same-machine -d 'This is the machine that was enrolled before, although its machine ID is another one'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand enroll" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand renew" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand renew" -l same-machine -d 'This is the machine that was enrolled, although its machine ID is another one'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand renew" -l reload -d 'Ask the CA for nothing: only have sshd read what a renewal that was ended has put in place'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand renew" -s h -l help -d 'Print help'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sync" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand report" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand report" -s h -l help -d 'Print help'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sessions" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sessions" -l json -d 'Print JSON'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sessions" -l watch -d 'List them again whenever anything has changed, until interrupted; with --json an object on each line'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sessions" -s h -l help -d 'Print help'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand end" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand end" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand check" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand status" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand status" -l json -d 'Print JSON'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand status" -l metrics -d 'Print it for Prometheus (for the textfile collector of node_exporter)'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand status" -s h -l help -d 'Print help'
