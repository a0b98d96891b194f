# ussh: its own verbs, and otherwise what ssh completes.
complete -c ussh --wraps ssh
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l login -d 'log in at the CA now, whatever the agent holds'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l force -d 'the same, then run ssh'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l check -d 'exit 0 if there is a good certificate, else 1; prints nothing'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l status -d 'agent, CA, certificates and the time they have left; exits as --check'
complete -c ussh -n 'contains -- --status (commandline -opc)[2]' -l json -d 'as JSON'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l logout -d 'remove the certificates of your CA from the agent'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l agent -d 'see to it that the guarded agent runs, and print its socket'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l log -d 'what hosts asked of the guarded agent, and what became of it'
complete -c ussh -n 'contains -- --log (commandline -opc)[2]' -l json -d 'as JSON'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l help -d 'this text'
complete -c ussh -n 'test (count (commandline -opc)) -eq 1' -l version -d 'the version'
