# ussh: its own verbs, and otherwise what ssh completes.
complete -c ussh --wraps ssh
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l login -d 'log in at the CA now, whatever the agent holds'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l force -d 'the same, then run ssh'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l check -d 'exit 0 if there is a good certificate, else 1; prints nothing'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l status -d 'agent, CA, certificates and the time they have left; exits as --check'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l logout -d 'remove the certificates of your CA from the agent'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l agent -d 'see to it that the guarded agent runs, and print its socket'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l log -d 'what hosts asked of the guarded agent, and what became of it'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l proxy -d 'get a certificate if there is no good one, connect: for ProxyCommand'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l write-config -d 'have plain ssh do all this: --hosts A,B --ca CA --system --dry-run'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l remove-config -d 'take that away again, byte for byte: --system --dry-run'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l help -d 'this text'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l version -d 'the version'
complete -c ussh -n '__fish_seen_argument -l status -l log' -l json
