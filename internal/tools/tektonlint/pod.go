package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/pod"
	pipelines "github.com/tektoncd/pipeline/pkg/reconciler/pipelinerun/resources"
	"github.com/tektoncd/pipeline/pkg/reconciler/taskrun"
	tasks "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	"github.com/tektoncd/pipeline/pkg/workspace"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubefake "k8s.io/client-go/kubernetes/fake"
	"knative.dev/pkg/apis"
)

// Request names a task of a run of a pipeline.
type Request struct {
	Run  string `json:"run"`
	Task string `json:"task"`
	// Results are those of the tasks that have ended, by task and name.
	Results map[string]map[string]string `json:"results"`
}

// Ended is a task whose Pod has ended.
type Ended struct {
	Request
	// ExitCode and Message are those of its only step: the message is what the step
	// left at its termination path.
	ExitCode int32  `json:"exitCode"`
	Message  string `json:"message"`
}

// Outcome is what the pipeline learns of a task that has ended.
type Outcome struct {
	Succeeded bool              `json:"succeeded"`
	Reason    string            `json:"reason"`
	Message   string            `json:"message"`
	Results   map[string]string `json:"results"`
}

var emptyDir = new(corev1.EmptyDirVolumeSource)

// images stand for those of a Tekton that is installed.
var images = pipeline.Images{
	EntrypointImage: "tekton/entrypoint", SidecarLogResultsImage: "tekton/sidecarlogresults", NopImage: "tekton/nop",
	ShellImage: "tekton/shell", ShellImageWin: "tekton/shell-win", WorkingDirInitImage: "tekton/workingdirinit",
}

// pod returns the Pod that Tekton creates for a task of a pipeline: parameters,
// results and workspaces are substituted, the entrypoint is put before each step.
func (c *catalog) pod(ctx context.Context, r Request) (*corev1.Pod, error) {
	spec, tr, err := c.start(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.build(ctx, spec, tr)
}

func (c *catalog) build(ctx context.Context, spec *v1.TaskSpec, tr *v1.TaskRun) (*corev1.Pod, error) {
	var err error
	volumes := workspace.CreateVolumes(tr.Spec.Workspaces)
	spec = tasks.ApplyParameters(spec, tr, spec.Params...)
	spec = tasks.ApplyContexts(spec, tr.Spec.TaskRef.Name, tr)
	spec = tasks.ApplyResults(spec)
	spec = tasks.ApplyArtifacts(spec)
	spec = tasks.ApplyStepExitCodePath(spec)
	spec = tasks.ApplyWorkspaces(ctx, spec, spec.Workspaces, tr.Spec.Workspaces, volumes)
	if spec, err = workspace.Apply(ctx, *spec, tr.Spec.Workspaces, volumes); err != nil {
		return nil, err
	}
	spec = tasks.ApplyCredentialsPath(spec, pipeline.CredsDir)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: tr.Spec.ServiceAccountName, Namespace: namespace}}
	kube := kubefake.NewSimpleClientset(account)
	builder := pod.Builder{Images: images, KubeClient: kube}
	if err := commands(spec); err != nil {
		return nil, err
	}
	return builder.Build(ctx, tr, *spec)
}

// commands checks that Tekton need not ask a registry for the command of an image:
// here it could not, and in a cluster the pull secrets would have to reach it.
func commands(spec *v1.TaskSpec) error {
	for _, s := range spec.Steps {
		if len(s.Command) == 0 && s.Script == "" {
			return fmt.Errorf("step %s has no command: Tekton would have to ask the registry of its image", s.Name)
		}
	}
	return nil
}

// start returns the task of a request with its step actions put in, and its run.
func (c *catalog) start(ctx context.Context, r Request) (*v1.TaskSpec, *v1.TaskRun, error) {
	t, run, err := c.pipelineTask(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	var bindings []v1.WorkspaceBinding
	for _, w := range t.PipelineTask.Workspaces {
		i := slices.IndexFunc(run.Spec.Workspaces, func(b v1.WorkspaceBinding) bool { return b.Name == w.Workspace })
		if i < 0 {
			continue
		}
		b := run.Spec.Workspaces[i]
		b.Name = w.Name
		bindings = append(bindings, b)
	}
	task := c.tasks[t.PipelineTask.TaskRef.Name]
	tr := taskRun(task, t.PipelineTask.Params, bindings)
	of := run.GetTaskRunSpec(t.PipelineTask.Name)
	tr.Spec.PodTemplate, tr.Spec.ServiceAccountName = of.PodTemplate, of.ServiceAccountName
	spec, err := c.resolve(ctx, task, tr)
	if err != nil {
		return nil, nil, err
	}
	resolved := &tasks.ResolvedTask{TaskName: task.Name, TaskSpec: spec, Kind: v1.NamespacedTaskKind}
	return spec, tr, errors.Join(
		taskrun.ValidateResolvedTask(ctx, tr.Spec.Params, &v1.Matrix{}, resolved),
		workspace.ValidateBindings(ctx, spec.Workspaces, bindings))
}

// pipelineTask returns the task with the parameters of the run and the results of the
// tasks before put in.
func (c *catalog) pipelineTask(ctx context.Context, r Request) (*pipelines.ResolvedPipelineTask, *v1.PipelineRun, error) {
	run, ok := c.runs[r.Run]
	if !ok {
		return nil, nil, fmt.Errorf("there is no PipelineRun %q", r.Run)
	}
	if run.Spec.PipelineRef == nil {
		return nil, nil, fmt.Errorf("PipelineRun %q refers to no Pipeline", r.Run)
	}
	p, ok := c.pipelines[run.Spec.PipelineRef.Name]
	if !ok {
		return nil, nil, fmt.Errorf("there is no Pipeline %q", run.Spec.PipelineRef.Name)
	}
	if err := errors.Join(requiredParams(p, run), pipelines.ValidateWorkspaceBindings(&p.Spec, run)); err != nil {
		return nil, nil, err
	}
	spec := pipelines.ApplyContexts(pipelines.ApplyParameters(ctx, p.Spec.DeepCopy(), run), p.Name, run)
	state, err := c.state(spec.Tasks)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(spec.Tasks, func(t v1.PipelineTask) bool { return t.Name == r.Task })
	if i < 0 {
		return nil, nil, fmt.Errorf("the pipeline has no task %q", r.Task)
	}
	for _, t := range state {
		if results, ended := r.Results[t.PipelineTask.Name]; ended {
			t.TaskRuns = []*v1.TaskRun{succeeded(t, results)}
		}
	}
	target := pipelines.PipelineRunState{state[i]}
	refs, _, err := pipelines.ResolveResultRefs(state, target)
	if err != nil {
		return nil, nil, err
	}
	pipelines.ApplyTaskResults(target, refs)
	return state[i], run, nil
}

// requiredParams checks that the run gives what the pipeline has no default for, and
// nothing that it does not know.
func requiredParams(p *v1.Pipeline, run *v1.PipelineRun) error {
	var errs []error
	given := map[string]bool{}
	for _, param := range run.Spec.Params {
		given[param.Name] = true
		if !slices.ContainsFunc(p.Spec.Params, func(s v1.ParamSpec) bool { return s.Name == param.Name }) {
			errs = append(errs, fmt.Errorf("the pipeline has no parameter %q", param.Name))
		}
	}
	for _, s := range p.Spec.Params {
		if s.Default == nil && !given[s.Name] {
			errs = append(errs, fmt.Errorf("the parameter %q is not given", s.Name))
		}
	}
	return errors.Join(errs...)
}

func succeeded(t *pipelines.ResolvedPipelineTask, results map[string]string) *v1.TaskRun {
	tr := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{Name: t.PipelineTask.Name, Namespace: namespace}}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		tr.Status.Results = append(tr.Status.Results, v1.TaskRunResult{Name: name, Type: v1.ResultsTypeString, Value: *v1.NewStructuredValues(results[name])})
	}
	tr.Status.SetCondition(&apis.Condition{Type: apis.ConditionSucceeded, Status: corev1.ConditionTrue})
	return tr
}

// results returns what Tekton reads out of the Pod of a task when it has ended.
func (c *catalog) results(ctx context.Context, e Ended) (*Outcome, error) {
	made, err := c.pod(ctx, e.Request)
	if err != nil {
		return nil, err
	}
	spec, tr, err := c.start(ctx, e.Request)
	if err != nil {
		return nil, err
	}
	phase := corev1.PodSucceeded
	if e.ExitCode != 0 {
		phase = corev1.PodFailed
	}
	made.Status.Phase = phase
	for _, container := range made.Spec.Containers {
		made.Status.ContainerStatuses = append(made.Status.ContainerStatuses, corev1.ContainerStatus{
			Name:  container.Name,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: e.ExitCode, Message: e.Message}},
		})
	}
	tr.Status.TaskSpec = spec
	status, err := pod.MakeTaskRunStatus(ctx, zap.NewNop().Sugar(), *tr, made, kubefake.NewSimpleClientset(), spec)
	if err != nil {
		return nil, err
	}
	condition := status.GetCondition(apis.ConditionSucceeded)
	out := &Outcome{Succeeded: condition.IsTrue(), Reason: condition.GetReason(), Message: condition.GetMessage(), Results: map[string]string{}}
	for _, r := range status.Results {
		out.Results[r.Name] = r.Value.StringVal
	}
	return out, nil
}
