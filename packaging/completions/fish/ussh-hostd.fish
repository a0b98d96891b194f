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
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "sync" -d 'Take the CA keys and the revocation list from the feed, all or nothing'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "sessions" -d 'List the sessions'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "check" -d 'Say whether the configuration is valid and the files it names can be used'
complete -c ussh-hostd -n "__fish_ussh_hostd_needs_command" -f -a "status" -d 'Say how things stand: the daemon, the CA keys, the revocation list'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand run" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sync" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sessions" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sessions" -l json -d 'Print JSON'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand sessions" -s h -l help -d 'Print help'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand check" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand check" -s h -l help -d 'Print help'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand status" -l config -d 'Configuration file [default: /etc/ussh/hostd.toml, or the defaults if it is missing]' -r -F
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand status" -l json -d 'Print JSON'
complete -c ussh-hostd -n "__fish_ussh_hostd_using_subcommand status" -s h -l help -d 'Print help'
