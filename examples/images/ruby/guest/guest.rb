# A guest in another language: docs/reference/guests.md in Ruby. State lives in one binding; the last expression is the value.

require "json"
require "socket"
require "open3"

CONTROL = Socket.for_fd(3)
CONTROL.close_on_exec = true
CONTROL.autoclose = false # Ruby's own end would close it first, and a guest without it is killed before it can say how it ended
STATE = TOPLEVEL_BINDING.eval("self").instance_eval { binding }
MAX_PIECE = 256 * 1024
$stdout.sync = $stderr.sync = true

# ---- frames ----------------------------------------------------------------------------------------------------------------

def send_frame(header, payload = "")
  text = JSON.generate(header).b
  CONTROL.write([text.bytesize, payload.bytesize].pack("NN") + text + payload.b)
end

def send_pieces(header, payload)
  payload = payload.b
  until payload.bytesize <= MAX_PIECE
    send_frame(header.merge("more" => 1), payload.byteslice(0, MAX_PIECE))
    payload = payload.byteslice(MAX_PIECE..)
  end
  send_frame(header, payload)
end

def each_frame
  while (head = CONTROL.read(8)) && head.bytesize == 8
    header, payload = head.unpack("NN")
    yield JSON.parse(CONTROL.read(header)), payload.zero? ? "".b : CONTROL.read(payload)
  end
end

# ---- values ----------------------------------------------------------------------------------------------------------------

def document(value)
  case value
  when nil then { kind: "absent" }
  when true, false, Integer, String then { kind: "scalar", json: value }
  when Float then value.finite? ? { kind: "scalar", json: value } : { kind: "text", text: value.inspect }
  when Array, Hash then { kind: "container", json: JSON.parse(JSON.generate(value)), text: value.inspect }
  else { kind: "text", text: value.inspect }
  end
rescue StandardError
  { kind: "text", text: value.inspect }
end

def tell_value(number, value)
  text = JSON.generate(document(value))
rescue StandardError # not UTF-8, or an inspect of the user's that fails
  text = '{"kind": "absent"}'
ensure
  send_pieces({ "value" => number }, text)
end

# Those of `names` that there are and that JSON can hold.
def tell_variables(number, names)
  found = names.each_with_object({}) do |name, all|
    next unless name.match?(/\A[a-z_]\w*\z/) && STATE.local_variable_defined?(name)
    all[name] = JSON.parse(JSON.generate(STATE.local_variable_get(name)))
  rescue StandardError
    next
  end
  send_pieces({ "variables" => number }, JSON.generate(found))
end

# ---- runs ------------------------------------------------------------------------------------------------------------------

def run_code(number, code, names)
  value = STATE.eval(code.force_encoding("UTF-8"), "cell")
  tell_variables(number, names) unless names.empty?
  tell_value(number, value)
  { "outcome" => "ok" }
end

def run_shell(spec)
  argv = spec["argv"] || [spec["shell"] || "bash", "-c", spec["command"]]
  input, output = IO.pipe
  pid = Process.spawn(*argv, in: input, pgroup: true)
  input.close
  writer = Thread.new { output.write(spec["stdin"].to_s) rescue nil; output.close rescue nil }
  status = Process.wait2(pid)[1]
  exit_code = status.exited? ? status.exitstatus : 128 + status.termsig
  { "outcome" => exit_code.zero? ? "ok" : "error", "exit" => exit_code }
rescue Interrupt
  Process.kill("KILL", -pid) rescue nil
  Process.wait(pid) rescue nil
  raise
rescue SystemCallError => error
  $stderr.puts(error.message)
  { "outcome" => "error", "exit" => 127 }
ensure
  writer&.kill
end

def run(number, header, body)
  trap("INT", "DEFAULT") # raises Interrupt where the code is
  header["kind"] == "shell" ? run_shell(JSON.parse(body)) : run_code(number, body, header["get"] || [])
rescue Interrupt
  $stderr.puts("Interrupt")
  { "outcome" => "interrupted" }
rescue SystemExit
  raise # ends the interpreter; the session gets another
rescue NoMemoryError => error
  $stderr.puts(error.message)
  { "outcome" => "error", "cause" => "memory" }
rescue Exception => error # rubocop:disable Lint/RescueException - SyntaxError and SystemStackError are no StandardErrors
  lines = (error.backtrace || []).take_while { |line| !line.start_with?(__FILE__) }
  $stderr.puts(["#{error.class}: #{error.message}", *lines.map { |line| "\tfrom #{line}" }])
  { "outcome" => "error" }
ensure
  trap("INT", "IGNORE")
  [$stdout, $stderr].each { |stream| stream.flush rescue nil }
end

trap("INT", "IGNORE")
send_frame({ "ready" => 1 })
body, variables = "".b, "".b
each_frame do |header, payload|
  if header["env"]
    ENV.update(JSON.parse(payload))
  elsif header["variables"]
    variables << payload
    next if header["more"]
    JSON.parse(variables).each { |name, value| STATE.local_variable_set(name, value) if name.match?(/\A[a-z_]\w*\z/) }
    variables = "".b
  elsif header["run"]
    body << payload
    next if header["more"]
    code, body = body, "".b
    send_frame({ "done" => header["run"], **run(header["run"], header, code) })
  end
end
