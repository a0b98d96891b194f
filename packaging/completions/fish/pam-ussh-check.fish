complete -c pam-ussh-check -l user -d 'Take the decision that `auth` would take for this account, with your own agent (which signs a challenge); --service su asks for the account that is gone to' -r
complete -c pam-ussh-check -l stack -d 'Lint PAM stacks: what lets everybody in, or nobody' -r -F
complete -c pam-ussh-check -l options -d 'Validate the options of a line, given as one word; the files and groups that they name are looked at here' -r
complete -c pam-ussh-check -l generate -d 'Print the manual page or a shell\'s completion, for packagers' -r -f -a "man\t'pam-ussh-check(8)'
bash\t'Completion for bash'
zsh\t'Completion for zsh'
fish\t'Completion for fish'"
complete -c pam-ussh-check -l service -d 'The service whose line or decision it is [default: sudo; sshd with --facility session; with --stack the file\'s name]' -r
complete -c pam-ussh-check -l facility -d 'With --options: the kind of line' -r -f -a "auth\t'auth'
account\t'account'
session\t'session'"
complete -c pam-ussh-check -l sshd-config -d 'With --stack: the sshd_config that goes with a stack named sshd [default: ../ssh/sshd_config from the stack\'s folder, if it is there]' -r -F
complete -c pam-ussh-check -l installed -d 'With --stack: judge the files as if they lay in /etc/pam.d: what they name must be there. With --options: what the options name must be there'
complete -c pam-ussh-check -l json -d 'Answer in JSON, one document'
complete -c pam-ussh-check -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pam-ussh-check -s V -l version -d 'Print version'
