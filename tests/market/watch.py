# Runs a program on a terminal of 30 lines and passes on what it draws. Once that holds a text, so often, Ctrl-C is pressed.
# watch.py TEXT TIMES COMMAND...: exits as the program did.
import fcntl, os, pty, struct, sys, termios

text, times, command = sys.argv[1].encode().decode("unicode_escape").encode(), int(sys.argv[2]), sys.argv[3:]
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 140, 0, 0))
    os.execv(command[0], command)
got, pressed = b"", False
while True:
    try:
        read = os.read(terminal, 65536)
    except OSError:  # The program is gone, and its terminal with it.
        break
    if not read:
        break
    got += read
    sys.stdout.buffer.write(read)
    sys.stdout.flush()
    if got.count(text) >= times and not pressed:
        pressed = True
        os.write(terminal, b"\x03")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
