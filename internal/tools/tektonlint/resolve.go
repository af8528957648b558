package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tektonfake "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/fake"
	pipelines "github.com/tektoncd/pipeline/pkg/reconciler/pipelinerun/resources"
	"github.com/tektoncd/pipeline/pkg/reconciler/taskrun"
	tasks "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	"github.com/tektoncd/pipeline/pkg/workspace"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubefake "k8s.io/client-go/kubernetes/fake"
)

// references returns what Tekton would find wrong when an object that uses another
// is run: the webhooks see one object at a time.
func (c *catalog) references(ctx context.Context) []string {
	var findings []string
	found := func(kind, name string, err error) {
		if err != nil {
			findings = append(findings, fmt.Sprintf("%s: %s %s: %v", c.files[kind+" "+name], kind, name, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.tasks)) {
		found("Task", name, c.checkTask(ctx, c.tasks[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(c.pipelines)) {
		found("Pipeline", name, c.checkPipeline(ctx, c.pipelines[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(c.runs)) {
		found("PipelineRun", name, c.checkRun(ctx, c.runs[name]))
	}
	return findings
}

// checkRun makes the Pod of every task of a run, as if every task had the results
// that it declares.
func (c *catalog) checkRun(ctx context.Context, run *v1.PipelineRun) error {
	if run.Spec.PipelineRef == nil || c.pipelines[run.Spec.PipelineRef.Name] == nil {
		return errors.New("the Pipeline that it refers to is not among the files")
	}
	list := c.pipelines[run.Spec.PipelineRef.Name].Spec.Tasks
	state, err := c.state(list)
	if err != nil {
		return err
	}
	request := Request{Run: run.Name, Results: map[string]map[string]string{}}
	for _, t := range state {
		given := map[string]string{}
		for _, r := range t.ResolvedTask.TaskSpec.Results {
			given[r.Name] = "given"
		}
		request.Results[t.PipelineTask.Name] = given
	}
	var errs []error
	for _, t := range list {
		request.Task = t.Name
		if _, err := c.pod(ctx, request); err != nil {
			errs = append(errs, fmt.Errorf("task %s: %w", t.Name, err))
		}
	}
	return errors.Join(errs...)
}

// checkTask makes the Pod of a task that is given what it has no default for. Tekton
// leaves a variable that it does not know as it stands.
func (c *catalog) checkTask(ctx context.Context, task *v1.Task) error {
	var params v1.Params
	for _, p := range task.Spec.Params {
		if p.Default == nil {
			params = append(params, v1.Param{Name: p.Name, Value: *v1.NewStructuredValues("given")})
		}
	}
	var bindings []v1.WorkspaceBinding
	for _, w := range task.Spec.Workspaces {
		bindings = append(bindings, v1.WorkspaceBinding{Name: w.Name, EmptyDir: emptyDir})
	}
	tr := taskRun(task, params, bindings)
	spec, err := c.resolve(ctx, task, tr)
	if err != nil {
		return err
	}
	made, err := c.build(ctx, spec, tr)
	if err != nil {
		return err
	}
	text, err := json.Marshal(made.Spec)
	if err != nil {
		return err
	}
	left := unknown.FindAllString(string(text), -1)
	slices.Sort(left)
	if left = slices.Compact(left); left != nil {
		return fmt.Errorf("unknown variable %s", strings.Join(left, ", "))
	}
	return nil
}

// unknown is a variable of Tekton. One of Kubernetes has no dot and no bracket.
var unknown = regexp.MustCompile(`\$\([a-zA-Z]+[.\[][^)]*\)`)

// taskRun returns a run of a task that has not begun.
func taskRun(task *v1.Task, params v1.Params, spaces []v1.WorkspaceBinding) *v1.TaskRun {
	tr := &v1.TaskRun{
		TypeMeta:   metav1.TypeMeta{APIVersion: "tekton.dev/v1", Kind: "TaskRun"},
		ObjectMeta: metav1.ObjectMeta{Name: task.Name, Namespace: namespace},
		Spec: v1.TaskRunSpec{
			Params: params, Workspaces: spaces, ServiceAccountName: "default",
			TaskRef: &v1.TaskRef{Name: task.Name, Kind: v1.NamespacedTaskKind},
		},
	}
	tr.SetDefaults(context.Background())
	return tr
}

// resolve returns the task with its step actions put in, as the reconciler of task
// runs does it.
func (c *catalog) resolve(ctx context.Context, task *v1.Task, tr *v1.TaskRun) (*v1.TaskSpec, error) {
	var objects []runtime.Object
	for _, name := range slices.Sorted(maps.Keys(c.stepActions)) {
		objects = append(objects, c.stepActions[name])
	}
	spec := task.Spec.DeepCopy()
	steps, err := tasks.GetStepActionsData(ctx, *spec, tr, tektonfake.NewSimpleClientset(objects...), kubefake.NewSimpleClientset(), nil)
	if err != nil {
		return nil, err
	}
	spec.Steps = steps
	spec.SetDefaults(ctx)
	return spec, errors.Join(stepResults(spec), fieldError(spec.Validate(ctx)))
}

// fieldError makes a nil of Tekton's a nil of ours.
func fieldError(err interface{ Error() string }) error {
	if err == nil || fmt.Sprint(err) == "<nil>" || err.Error() == "" {
		return nil
	}
	return errors.New(err.Error())
}

// stepResults checks what Tekton finds out only when the run has ended: a result of
// the task that no step has is silently left out there.
func stepResults(spec *v1.TaskSpec) error {
	var errs []error
	for _, r := range spec.Results {
		if r.Value == nil {
			continue
		}
		step, result, err := v1.ExtractStepResultName(r.Value.StringVal)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		i := slices.IndexFunc(spec.Steps, func(s v1.Step) bool { return s.Name == step })
		if i < 0 || !slices.ContainsFunc(spec.Steps[i].Results, func(s v1.StepResult) bool { return s.Name == result }) {
			errs = append(errs, fmt.Errorf("result %s: step %q has no result %q", r.Name, step, result))
		}
	}
	return errors.Join(errs...)
}

// checkPipeline checks that the tasks of a pipeline exist, are given what they need
// and nothing else, and give what others use.
func (c *catalog) checkPipeline(ctx context.Context, p *v1.Pipeline) error {
	state, err := c.state(p.Spec.Tasks)
	if err != nil {
		return err
	}
	errs := []error{
		pipelines.ValidatePipelineTaskResults(state),
		pipelines.ValidatePipelineResults(&p.Spec, state),
		pipelines.ValidateOptionalWorkspaces(p.Spec.Workspaces, state),
	}
	for _, t := range state {
		errs = append(errs, taskrun.ValidateResolvedTask(ctx, t.PipelineTask.Params, nil, t.ResolvedTask), unknownParams(t), workspaces(ctx, t))
	}
	return errors.Join(errs...)
}

// unknownParams are ignored by Tekton without a word.
func unknownParams(t *pipelines.ResolvedPipelineTask) error {
	var unknown []string
	for _, p := range t.PipelineTask.Params {
		if !slices.ContainsFunc(t.ResolvedTask.TaskSpec.Params, func(s v1.ParamSpec) bool { return s.Name == p.Name }) {
			unknown = append(unknown, p.Name)
		}
	}
	if unknown == nil {
		return nil
	}
	return fmt.Errorf("task %s has no parameter %s", t.PipelineTask.Name, strings.Join(unknown, ", "))
}

// workspaces checks that the task is given the workspaces that it needs, and no other.
func workspaces(ctx context.Context, t *pipelines.ResolvedPipelineTask) error {
	var bindings []v1.WorkspaceBinding
	for _, w := range t.PipelineTask.Workspaces {
		bindings = append(bindings, v1.WorkspaceBinding{Name: w.Name, EmptyDir: emptyDir})
	}
	if err := workspace.ValidateBindings(ctx, t.ResolvedTask.TaskSpec.Workspaces, bindings); err != nil {
		return fmt.Errorf("task %s: %w", t.PipelineTask.Name, err)
	}
	return nil
}

// state returns the tasks of a pipeline with the tasks that they refer to.
func (c *catalog) state(list []v1.PipelineTask) (pipelines.PipelineRunState, error) {
	var state pipelines.PipelineRunState
	for i := range list {
		t := &list[i]
		task, ok := c.tasks[t.TaskRef.Name]
		if !ok {
			return nil, fmt.Errorf("task %s: there is no Task %q", t.Name, t.TaskRef.Name)
		}
		state = append(state, &pipelines.ResolvedPipelineTask{
			PipelineTask: t, TaskRunNames: []string{t.Name},
			ResolvedTask: &tasks.ResolvedTask{TaskName: task.Name, TaskSpec: &task.Spec, Kind: v1.NamespacedTaskKind},
		})
	}
	return state, nil
}
